"""Say what an image file shows: `python -m stages.predict shirt.png [more files or folders ...]`.

No stage: it reads images from outside and `models/best.safetensors`, and prints the likeliest classes with their
probabilities; `--json` prints them for programs, `--plot` saves a picture. A file that cannot be read gets one line on
stderr, the others are classified all the same, and the exit status is 1. A picture that is unlike the images that the
model knows gets a line of warning. Most of its few seconds are torch's start.

Shapes: N images, C channels, H x W pixels, K classes.
"""

import io
import json
import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.lib.base.errors import Outdated, UserError, exit_at_once, exit_cleanly, one_line, printable
from stages.lib.photos import Background, Seen, check_file, doubt_text, preview, read_picture, see
from stages.lib.source.folders import image_files

if TYPE_CHECKING:  # slow to import: at run time only where they are needed
    from matplotlib.figure import Figure
    from torch import nn

CHUNK = 64  # images classified at a time; of each only what the model sees is kept
MOST_PLOTTED = 100  # images in one picture; more would be too small to see
BAR = 20  # characters for a probability of 1

Complain = Callable[[UserError | OSError], None]


@dataclass(frozen=True)
class Prediction:
    """The classes that a model gives to one file."""

    path: Path
    seen: Seen
    ranking: tuple[tuple[str, float], ...]  # every class with its probability, the likeliest first

    @property
    def label(self) -> str:
        """The name of the file, shortened, and its likeliest class: the title of its picture."""
        from stages.lib import plots

        likeliest, probability = self.ranking[0]
        name = plots.short(printable(self.path.name), 24)
        return f"{name}\n{plots.short(likeliest)}, {100 * probability:.1f} %"


def main() -> None:
    """Classify the files named on the command line; exit with 1 if any of them could not be."""
    options = parse_options()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a file's name may have letters that the terminal lacks
    failures = []

    def complain(error: UserError | OSError) -> None:
        failures.append(error)
        print(f"predict: {one_line(error)}", file=sys.stderr)

    files = find_files(options.paths, complain)
    check_options(options, files)
    predictions = predict_files(options.model, files, options.background, complain) if files else []
    entries, plotted = [], []
    for count, prediction in enumerate(predictions):
        if options.json:
            entries.append(as_json(prediction, options.top))
        else:
            print(("\n" if count else "") + as_text(prediction, options.top))
        if options.plot and count < MOST_PLOTTED:
            plotted.append(prediction)
    if options.json:
        print(json.dumps(entries, indent=2, allow_nan=False))  # ASCII: not every file name is valid Unicode
    if plotted:
        from stages.lib import plots

        plots.save(draw(plotted), options.plot)
    sys.stdout.flush()  # here: exit_cleanly handles a closed pipe
    if failures:
        sys.exit(1)


def parse_options() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        prog="python -m stages.predict",
        description="Say what an image file shows.",
        epilog="Reads PNG, JPEG, WebP, GIF (the first frame) and BMP, one thing per image.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="an image file, or a folder of them")
    parser.add_argument(
        "--model", type=Path, default="models/best.safetensors", metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes to list per file, default 3")
    parser.add_argument(
        "--background",
        choices=("auto", "light", "dark"),
        default="auto",
        help="for models of FashionMNIST and MNIST: what the garment or digit lies on; auto looks at the corners. A "
        "light background is inverted: the models know light things on black",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="save a picture of the images and their classes")
    options = parser.parse_args()
    if options.top < 1:
        parser.error(f"--top {options.top}: at least 1")
    return options


def find_files(paths: Sequence[Path], complain: Complain) -> list[Path]:
    """Replace folders by the image files in them; leave out, with a complaint, what cannot be read."""
    files: list[Path] = []
    for path in paths:
        try:
            if not path.is_dir():
                check_file(path)
                files.append(path)
            elif inside := image_files(path, on_error=complain):
                files += inside
            else:
                complain(UserError(f"{path} holds no image files"))
        except (UserError, OSError) as error:
            complain(error)
    return files


def check_options(options: Namespace, files: Sequence[Path]) -> None:
    """Check the options before torch is imported and anything is computed."""
    if not options.model.is_file():
        raise Outdated(options.model, "is missing or no file")
    if not options.plot:
        return
    if options.plot.suffix.lower() != ".png":
        raise UserError(f"--plot {options.plot}: its name must end in .png")
    if options.plot.exists() and any(options.plot.samefile(file) for file in (options.model, *files)):
        raise UserError(f"--plot {options.plot} would overwrite a file that is to be read; name another one")
    if len(files) > MOST_PLOTTED:
        print(f"predict: {options.plot} will show the first {MOST_PLOTTED} images only", file=sys.stderr)


def predict_files(
    model_path: Path, files: Sequence[Path], background: Background, complain: Complain
) -> Iterator[Prediction]:
    """Classify the files, a chunk at a time; pass over, with a complaint, what cannot be read."""
    from stages.lib.learning.models import load_checkpoint, warn_if_edited

    checkpoint = load_checkpoint(model_path)
    warn_if_edited(model_path, checkpoint)
    about = (checkpoint.source, checkpoint.input_shape, checkpoint.brought)
    for start in range(0, len(files), CHUNK):
        found: list[tuple[Path, Seen]] = []
        for path in files[start : start + CHUNK]:
            try:
                found.append((path, seen := see(path, *about, background)))
                if seen.doubts:
                    print(f"predict: warning: {doubt_text(path, seen)}", file=sys.stderr)
            except (UserError, OSError) as error:
                complain(error)
        if found:
            yield from classify(checkpoint.model, found, checkpoint.class_names)


def classify(model: "nn.Module", pictures: Sequence[tuple[Path, Seen]], class_names: Sequence[str]) -> list[Prediction]:
    """Compute the probabilities of the classes, on the device where the model is.

    Raises:
        UserError: the model gives something that is no number, as one does whose training has diverged.
    """
    import torch

    device = next(model.parameters()).device
    images_NCHW = torch.from_numpy(np.stack([seen.pixels_CHW for _, seen in pictures]))
    model.eval()
    with torch.inference_mode():
        logits_NK = model(images_NCHW.to(device, torch.float32) / 255)
        probabilities_NK: NDArray[np.float32] = logits_NK.softmax(dim=1).cpu().numpy()
    if not np.isfinite(probabilities_NK).all():
        raise UserError("the model gives probabilities that are no numbers; train it again")
    order_NK = np.argsort(-probabilities_NK, kind="stable")  # stable: of equals the first class comes first
    return [
        Prediction(path, seen, tuple((class_names[k], float(probabilities_K[k])) for k in order_K))
        for (path, seen), probabilities_K, order_K in zip(pictures, probabilities_NK, order_NK, strict=True)
    ]


def as_json(prediction: Prediction, top: int) -> dict[str, object]:
    """Return what `--json` prints of one file. Digits after the sixth depend on which images are computed together."""
    return {
        "file": str(prediction.path),
        "inverted": prediction.seen.inverted,
        "doubts": list(prediction.seen.doubts),
        "predictions": [{"class": name, "probability": round(p, 6)} for name, p in prediction.ranking[:top]],
    }


def as_text(prediction: Prediction, top: int) -> str:
    """Lay out the likeliest classes of one file with a bar for each probability."""
    width = max(len(name) for name, _ in prediction.ranking)
    # The terminal may be one that has no block characters.
    block = "\N{FULL BLOCK}" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    lines = [printable(str(prediction.path)) + (" (inverted)" if prediction.seen.inverted else "")]
    for name, probability in prediction.ranking[:top]:
        lines.append(f"  {name:{width}}  {100 * probability:5.1f} %  {block * round(BAR * probability)}".rstrip())
    return "\n".join(lines)


def draw(predictions: Sequence[Prediction]) -> "Figure":
    """Draw one file in detail, beside the probabilities of its classes, or several in a grid."""
    from stages.lib import plots

    images = [prediction.seen.pixels_CHW for prediction in predictions]
    labels = [prediction.label for prediction in predictions]
    if len(predictions) > 1:
        return plots.image_grid(images, labels, "Predicted classes", "", columns=math.ceil(math.sqrt(len(images))))
    given = preview(read_picture(predictions[0].path))
    return plots.prediction(labels[0], given, images[0], predictions[0].seen.inverted, predictions[0].ranking)


if __name__ == "__main__":
    exit_cleanly("predict", main)
    exit_at_once()
