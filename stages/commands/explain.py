"""Look inside a trained model: `make explain`, or `python -m stages.commands.explain --model model_2`.

No stage: it reads a model and the test images, and writes `explain.html`, one file that needs no network and no other
file. It has the weights and some images in it; explain_page/network.js computes from them all that is shown, as
PyTorch does. Takes some seconds.

Shapes: N images, C channels, H x W pixels, K classes.
"""

import base64
import io
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from stages.commands.state import older_than_read
from stages.commands.templates import environment_of
from stages.lib.base.errors import Outdated, exit_at_once, exit_cleanly, printable
from stages.lib.base.files import write_text
from stages.lib.base.lock import read_lock, recorded
from stages.lib.base.params import load_params
from stages.lib.data.datasets import Split, load_split
from stages.lib.learning.devices import set_seeds
from stages.lib.learning.evaluation import predict
from stages.lib.learning.feature_maps import LayerOutput, record_outputs
from stages.lib.learning.layers import multiply_adds
from stages.lib.learning.models import Checkpoint, build_model, load_checkpoint, warn_if_edited
from stages.lib.photos import Background, doubt_text, preview, read_picture, see

PAGE = Path(__file__).with_name("explain_page")
SCRIPTS = ("network.js", "parts.js", "steps.js", "sheets.js", "play.js", "page.js")  # the last one begins
MISTAKES = 6  # of the model, the most confident ones
# What network.js can compute, and what a forward function may do between these layers.
KINDS = (nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten, nn.Linear)
FUNCTIONS = (nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
MOST_WEIGHTS = 1_000_000  # in the page: each takes 5.3 letters, before training and after
MOST_MAPS = 10  # of each layer, where the page cannot compute them and has to hold them
LARGEST_MAP = 64  # rows and columns of these; of larger ones the page has means
MOST_MULTIPLY_ADDS = 30_000_000  # for an image: more takes a browser longer than people wait
MOST_PIXELS = 1_500_000  # of all images in the page: 1,900 of FashionMNIST, 7 in colour of 256 x 256


def main() -> None:
    """Choose images, pass them through the model, write the page."""
    options = parse_options()
    params = load_params()
    torch.set_num_threads(params.train.threads)
    checkpoint = load_checkpoint(options.model)
    photos = [photo(path, checkpoint, options.background) for path in options.image]
    warn_if_edited(options.model, checkpoint)
    stage = f"train_{checkpoint.name}"
    run = recorded(stage, options.model)
    training = run.get("params", {}).get("params.yaml", {})
    seed = training.get("seed", params.seed)
    test = load_split("data/prepared/test.safetensors")
    if test.source != checkpoint.source:
        raise Outdated("data/prepared", f"is {test.source}, and {options.model} was trained on {checkpoint.source}")
    if run and (stage, "data/prepared") in older_than_read(read_lock()):
        raise Outdated("data/prepared", f"is newer than {options.model}, which may know its test images from training")
    logits_NK = predict(checkpoint, test, params.evaluate.batch_size)
    page = render(
        {
            "model": checkpoint.name,
            "architecture": type(checkpoint.model).__name__,
            "classes": list(checkpoint.class_names),
            "source": test.source,
            "data_set": test.data_set,
            "seed": seed,
            "seed_recorded": "seed" in training,
            "accuracy": float((logits_NK.argmax(dim=1) == test.labels_N).double().mean()) * 100,
            **look_inside(
                checkpoint.model,
                initial_model(checkpoint, seed),
                [*photos, *one_of_each_class(test), *confident_mistakes(logits_NK, test)],
            ),
        }
    )
    write_text(options.output, page)
    print(f"wrote {options.output} ({len(page) / 1024:,.0f} KiB): open it in any browser")


def render(data: dict[str, Any]) -> str:
    """Return the page as HTML, styles, scripts and `data` inside."""
    environment = environment_of(PAGE, autoescape=True)
    style, *scripts = [(PAGE / file).read_text(encoding="utf-8") for file in ("style.css", *SCRIPTS)]
    return environment.get_template("page.html.j2").render(data=data, style=style, scripts=scripts)


def one_of_each_class(test: Split) -> list[dict[str, Any]]:
    """Return the first test image of each class."""
    labels = test.labels_N.tolist()
    return [from_test(test, labels.index(label), "classes") for label in sorted(set(labels))]


def confident_mistakes(logits_NK: Tensor, test: Split) -> list[dict[str, Any]]:
    """Return the test images that the model gets wrong with the most confidence."""
    confidence_N, predictions_N = logits_NK.softmax(dim=1).max(dim=1)
    wrong = (predictions_N != test.labels_N).nonzero().flatten()
    order = confidence_N[wrong].argsort(descending=True, stable=True)
    return [from_test(test, index, "mistakes") for index in wrong[order][:MISTAKES].tolist()]


def from_test(test: Split, index: int, group: str) -> dict[str, Any]:
    """Describe a test image."""
    return {
        "group": group,
        "name": f"test image {index}",
        "label": int(test.labels_N[index]),
        "pixels": test.images_NCHW[index],
    }


def photo(path: Path, checkpoint: Checkpoint, background: Background) -> dict[str, Any]:
    """Describe an image file, prepared as predict does.

    Raises:
        OSError, UserError: it cannot be read, or shows nothing but one colour.
    """
    seen = see(path, checkpoint.source, checkpoint.input_shape, checkpoint.brought, background)
    if seen.doubts:
        print(f"explain: warning: {doubt_text(path, seen)}", file=sys.stderr)
    file = io.BytesIO()
    Image.fromarray(preview(read_picture(path), longest=200)).save(file, "PNG")
    return {
        "group": "photo",
        "name": printable(path.name),
        "label": None,
        "pixels": torch.from_numpy(seen.pixels_CHW.copy()),
        "photo": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}",
        "inverted": seen.inverted,
        "how": seen.how,
    }


def initial_model(checkpoint: Checkpoint, seed: int) -> nn.Module:
    """Build the model anew as train does: with the weights that its training began with."""
    set_seeds(seed)
    shape, classes = checkpoint.input_shape, len(checkpoint.class_names)
    return build_model(checkpoint.arch, shape, checkpoint.hidden_units, classes, checkpoint.settings)


def look_inside(model: nn.Module, initial: nn.Module, images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the images with their logits, and the layers: with what it takes to compute them, or with their maps.

    Of large images there may be fewer: the first of them, as many as a page can hold.
    """
    images = images[: max(1, MOST_PIXELS // images[0]["pixels"].numel())]
    pixels_NCHW = torch.stack([image["pixels"] for image in images])
    outputs, logits_NK = record_outputs(model, images_NCHW := pixels_NCHW / 255)
    shown = [
        {**image, "pixels": encode(pixels_CHW, "u1"), "logits": logits_K}
        for image, pixels_CHW, logits_K in zip(images, pixels_NCHW, logits_NK.tolist(), strict=True)
    ]
    # Far from any image functions differ that agree on these, such as ReLU and ReLU6.
    far_NCHW = torch.cat([images_NCHW, 1000 * images_NCHW, -1000 * images_NCHW])
    far_outputs, far_logits_NK = record_outputs(model, far_NCHW)
    steps, reason = follow(far_outputs, far_NCHW, far_logits_NK)
    if reason:
        maps = [(output, output.maps(len(images))) for output in outputs]
        layers = [maps_of(output, values) for output, values in maps if values is not None]
    else:
        first = dict(zip(model.modules(), initial.modules(), strict=True))
        layers = [settings_of(step, first.get(step.module)) for step in steps]
    return {"input_shape": list(pixels_NCHW.shape[1:]), "images": shown, "layers": layers, "reason": reason}


def follow(outputs: list[LayerOutput], images_NCHW: Tensor, logits_NK: Tensor) -> tuple[list[LayerOutput], str]:
    """Return the chain of layers that leads from the images to the logits, or why there is no chain that is known.

    Functions between the layers, such as `torch.relu`, are found by what they do to these images.
    """
    if problem := next(filter(None, map(unknown, outputs)), ""):
        return [], problem
    if sum(weights.numel() for output in outputs for weights in output.module.parameters()) > MOST_WEIGHTS:
        return [], f"it has more than {MOST_WEIGHTS:,} weights"
    costs = [multiply_adds(each.module, (each.before[:1],), each.after[:1]) for each in outputs]
    if sum(costs) > MOST_MULTIPLY_ADDS:
        return [], f"an image takes more than {MOST_MULTIPLY_ADDS:,} multiply-adds"
    steps: list[LayerOutput] = []
    value, place = images_NCHW, "the image"
    layers = [output for output in outputs if type(output.module) in KINDS]
    for output in [*layers, LayerOutput("the logits", nn.Identity(), logits_NK, logits_NK)]:
        between = functions_between(value, output.before)
        if between is None:
            return [], f"something that is no layer, such as a sum, stands between {place} and {output.name}"
        steps += between
        if type(output.module) in KINDS:
            steps.append(output)
        value, place = output.after, output.name
    return steps, ""


def unknown(output: LayerOutput) -> str:
    """Say what is unknown about a layer; nothing if nothing is."""
    module = output.module
    if type(module) not in KINDS:
        same = torch.equal(output.before, output.after)  # Dropout, say, which does nothing after training
        return "" if same else f"{output.name} is a {type(module).__name__}"
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        return f"{output.name} pads with {module.padding_mode}"
    if isinstance(module, nn.Linear) and output.before.ndim != 2:
        return f"{output.name} is a Linear layer on maps"
    return ""


def functions_between(before: Tensor, after: Tensor) -> list[LayerOutput] | None:
    """Find up to three functions that make `after` of `before`; None if there are none."""
    for count in range(4):
        for modules in product(FUNCTIONS, repeat=count):
            steps: list[LayerOutput] = []
            value = before
            for module in modules:
                if isinstance(module, nn.MaxPool2d) and (value.ndim != 4 or min(value.shape[2:]) < 2):
                    break
                steps.append(LayerOutput("", module, value, module(value)))
                value = steps[-1].after
            if torch.equal(value, after):
                return steps
    return None


def settings_of(step: LayerOutput, initial: nn.Module | None) -> dict[str, Any]:
    """Return what a layer needs to be computed, and its weights before training."""
    module = step.module
    settings: dict[str, Any] = {
        "name": step.name,
        "kind": type(module).__name__,
        "shape": list(step.after.shape[1:]),
    }
    for key, value in (("weight", module), ("bias", module), ("weight_before", initial), ("bias_before", initial)):
        if (tensor := getattr(value, key.removesuffix("_before"), None)) is not None:
            settings[key] = encode(tensor, "<f4")
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        kernel, stride = pair(module.kernel_size), pair(module.stride)
        dilation = pair(getattr(module, "dilation", 1))
        if isinstance(module.padding, str):  # of "same" an odd cell goes to the bottom and to the right
            same = [d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True)]
            padding = same if module.padding == "same" else [0, 0]
        else:
            padding = pair(module.padding)
        settings |= {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    if isinstance(module, nn.Conv2d):
        settings["groups"] = module.groups
    if isinstance(module, nn.AvgPool2d):
        settings |= {"count_padding": module.count_include_pad, "divisor": module.divisor_override}
    return settings


def maps_of(output: LayerOutput, maps: Tensor) -> dict[str, Any]:
    """Return the first maps of a layer for each image, in 8 bits of the largest value that it has in that image."""
    shape, maps = list(maps.shape[1:]), maps[:, :MOST_MAPS]
    if maps.ndim == 4 and max(maps.shape[2:]) > LARGEST_MAP:
        maps = adaptive_avg_pool2d(maps, (min(maps.shape[2], LARGEST_MAP), min(maps.shape[3], LARGEST_MAP)))
    values = maps.flatten(1)
    largest = values.abs().amax(dim=1, keepdim=True)
    return {
        "name": output.name,
        "kind": type(output.module).__name__,
        "shape": shape,
        "size": list(maps.shape[2:]),
        "maps": encode((values / largest.clamp(min=1e-30) * 127).round(), "i1"),
        "largest": largest.flatten().tolist(),
    }


def encode(tensor: Tensor, kind: str) -> str:
    """Return the values of a tensor in base64, each as NumPy's `kind` of number."""
    return base64.b64encode(tensor.detach().contiguous().numpy().astype(kind).tobytes()).decode()


def pair(size: int | tuple[int, ...]) -> list[int]:
    """Return a size for height and width."""
    return list(size) if isinstance(size, tuple) else [size, size]


def parse_options() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        prog="python -m stages.commands.explain", description="Look inside a trained model, on one HTML page."
    )
    parser.add_argument("--model", default="best", metavar="NAME", help="such as model_2; default: the best")
    parser.add_argument(
        "--image", nargs="+", type=Path, default=[], metavar="FILE", help="images of your own, prepared as predict does"
    )
    parser.add_argument(
        "--background", choices=("auto", "light", "dark"), default="auto", help="what the garment in them lies on"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("explain.html"), help="default: explain.html")
    options = parser.parse_args()
    options.model = Path(f"models/{options.model}.safetensors")
    if options.output.suffix != ".html":
        parser.error(f"--output {options.output}: its name must end in .html")
    return options


if __name__ == "__main__":
    exit_cleanly("explain", main)
    exit_at_once()
