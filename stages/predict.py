"""Say what garment an image file shows: `python -m stages.predict shirt.png [more files or folders ...]`.

No stage: it reads images from outside and `models/best.safetensors`, and prints the likeliest classes with their
probabilities; `--json` prints them for programs, `--plot` saves a picture. A file that is no image gets one line on
stderr, the others are classified all the same, and the exit status is 1. Most of its few seconds are torch's start.
"""

import argparse
import io
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.lib.base.errors import UserError, exit_at_once, exit_cleanly
from stages.lib.photos import Background, Garment, check_file, find_garment, preview, read_picture
from stages.lib.source.folders import image_files

if TYPE_CHECKING:  # slow to import: at run time only where they are needed
    from matplotlib.figure import Figure
    from torch import nn

# Shape suffixes: N images, K classes, H x W pixels.

CHUNK = 64  # images classified at a time; of each only 28 x 28 pixels are kept
MOST_PLOTTED = 100  # images in one picture; more would be too small to see
BAR = 20  # characters for a probability of 1

Complain = Callable[[Exception], None]


@dataclass(frozen=True)
class Prediction:
    """What the model makes of one file."""

    path: Path
    garment: Garment
    ranking: tuple[tuple[str, float], ...]  # every class with its probability, the likeliest first


def main(arguments: Sequence[str] | None = None) -> None:
    """Classify the files named on the command line; exit with 1 if any of them could not be."""
    options = _parse(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a file's name may have letters that the terminal lacks
    failures = 0

    def complain(error: Exception) -> None:
        nonlocal failures
        failures += 1
        reason = f"{error.filename} cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        print(f"predict: {_printable(reason)}", file=sys.stderr)

    files = _find_files(options.paths, complain)
    if files:
        _check_options(options, files)
        if options.plot and len(files) > MOST_PLOTTED:
            print(f"predict: {options.plot} will show the first {MOST_PLOTTED} images only", file=sys.stderr)
        predictions = _predict_files(options.model, files, options.background, complain)
        kept = _print_all(predictions, options.top, options.json, MOST_PLOTTED if options.plot else 0)
        if kept:
            _plot(kept, options.plot)
    elif options.json:
        print("[]")

    sys.stdout.flush()  # here, where a reader that has gone is still met with calm
    if failures:
        sys.exit(1)


def classify(model: "nn.Module", garments: Sequence[Garment]) -> NDArray[np.float32]:
    """Give the probabilities `[N, K]` of the classes, computed on the device where the model is.

    Raises:
        UserError: the model gives something that is no number, as one does whose training has diverged.
    """
    import torch

    device = next(model.parameters()).device
    images_NHW = torch.from_numpy(np.stack([garment.pixels_HW for garment in garments]))
    model.eval()
    with torch.inference_mode():
        logits_NK = model(images_NHW.unsqueeze(1).to(device, torch.float32) / 255)
        probabilities_NK: NDArray[np.float32] = logits_NK.softmax(dim=1).cpu().numpy()
    if not np.isfinite(probabilities_NK).all():
        raise UserError("the model gives probabilities that are no numbers; train it again")
    return probabilities_NK


def predict_image(
    model: "nn.Module", path: str | Path, class_names: Sequence[str], background: Background = "auto"
) -> Prediction:
    """Classify one image file.

    Raises:
        UserError: the file is no image that can be read.
    """
    garment = find_garment(read_picture(path), background)
    return _rank(Path(path), garment, class_names, classify(model, [garment])[0])


def predict_and_plot_image(
    model: "nn.Module", path: str | Path, class_names: Sequence[str], background: Background = "auto"
) -> "Figure":
    """Classify one image file and draw it beside the probabilities of its classes.

    Args:
        model: takes float32 images `[N, 1, 28, 28]` in [0, 1], a light garment on black; gives logits `[N, K]`.
        path: the image file, of any size; colour, transparency and rotation are taken care of.
        class_names: the K names, in the order of the logits.
        background: `light` or `dark` overrules what the corners of the picture show.

    Returns:
        A figure, not shown: display it in a notebook, or write it with `stages.lib.plots.save`.

    Raises:
        UserError: the file is no image that can be read.
    """
    return plot_prediction(predict_image(model, path, class_names, background))


def plot_prediction(prediction: Prediction) -> "Figure":
    """Draw the file as it is, as the model sees it, and bars for the probabilities of its likeliest ten classes."""
    figure = _figure(10, 3.6)
    given, seen, bars = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    # Text from outside is shown as it stands: a dollar sign in a file's name starts no formula.
    figure.suptitle(_title(prediction), fontsize=13, parse_math=False)

    given.imshow(np.asarray(preview(read_picture(prediction.path))))
    given.set_title(_shortened(prediction.path.name, 36), fontsize=9, parse_math=False)
    seen.imshow(prediction.garment.pixels_HW, cmap="gray", vmin=0, vmax=255)
    seen.set_title("as the model sees it" + (", inverted" if prediction.garment.inverted else ""), fontsize=9)
    for axes in (given, seen):
        axes.set_axis_off()
        axes.set_anchor("N")  # the top edges level, whatever the proportions

    names, probabilities = zip(*prediction.ranking[:10], strict=True)
    rows = range(len(names))
    drawn = bars.barh(rows, probabilities, color=["tab:blue"] + ["lightsteelblue"] * (len(names) - 1))
    bars.bar_label(drawn, [_percent(probability) for probability in probabilities], padding=3, fontsize=9)
    bars.set_yticks(rows, names, fontsize=9, parse_math=False)
    bars.invert_yaxis()
    bars.set_xlim(0, 1.25)  # room for the label of a full bar
    bars.set_xticks([])
    bars.grid(visible=False)
    bars.spines[:].set_visible(False)
    bars.tick_params(length=0)
    return figure


def plot_predictions(predictions: Sequence[Prediction]) -> "Figure":
    """Draw a grid of images as the model sees them, each with its file's name and its likeliest class."""
    columns = math.ceil(math.sqrt(len(predictions)))
    rows = math.ceil(len(predictions) / columns)
    figure = _figure(2 * columns, 2.3 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, prediction in zip(grid, predictions, strict=False):
        axes.imshow(prediction.garment.pixels_HW, cmap="gray", vmin=0, vmax=255)
        title = f"{_shortened(prediction.path.name, 24)}\n{_title(prediction)}"
        axes.set_title(title, fontsize=8, parse_math=False)
    return figure


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict",
        description="Say what garment an image file shows.",
        epilog="Reads PNG, JPEG, WebP, GIF (the first frame) and BMP, one garment per image.",
    )
    parser.add_argument("paths", nargs="+", type=_path, metavar="PATH", help="an image file, or a folder of them")
    parser.add_argument(
        "--model", type=_path, default=Path("models/best.safetensors"), metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument("--top", type=_count, default=3, metavar="K", help="classes to list per file, default 3")
    parser.add_argument(
        "--background",
        choices=("auto", "light", "dark"),
        default="auto",
        help="the ground the garment lies on; auto looks at the corners. A light one is inverted: the models know "
        "light garments on black",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")
    parser.add_argument("--plot", type=_path, metavar="FILE.png", help="save a picture of the images and their classes")
    return parser.parse_args(arguments)


def _path(text: str) -> Path:
    if not text:  # Path("") is the current folder, surely not what an empty shell variable meant
        raise argparse.ArgumentTypeError("an empty name")
    return Path(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _find_files(paths: Iterable[Path], complain: Complain) -> list[Path]:
    """Replace folders by the image files in them; leave out, with a complaint, what cannot be read."""
    files: list[Path] = []
    for path in paths:
        try:
            if path.is_dir():
                inside = image_files(path, on_error=complain)
                files += inside
                if not inside:
                    raise UserError(f"{path} holds no image files")
            else:
                check_file(path)
                files.append(path)
        except (UserError, OSError) as error:
            complain(error)
    return files


def _check_options(options: argparse.Namespace, files: Iterable[Path]) -> None:
    """Say now what would otherwise come up only after torch's start or after all the work."""
    if not options.model.exists():
        raise UserError(f"{options.model} is missing; run `dvc repro` to make it, or name another with --model")
    if not options.model.is_file():
        raise UserError(f"{options.model} is no file; --model takes one such as models/best.safetensors")
    if options.plot is None:
        return
    if options.plot.suffix.lower() != ".png":
        raise UserError(f"--plot {options.plot}: its name must end in .png")
    if options.plot.exists() and any(options.plot.samefile(file) for file in files):
        raise UserError(f"--plot {options.plot} would overwrite an image that is to be classified; name another file")


def _predict_files(
    model_path: Path, files: Iterable[Path], background: Background, complain: Complain
) -> Iterator[Prediction]:
    """Classify the files, a chunk at a time; pass over, with a complaint, what is no image."""
    from stages.lib.learning.models import load_checkpoint

    checkpoint = load_checkpoint(model_path)
    remaining = iter(files)
    while chunk := list(islice(remaining, CHUNK)):
        garments: dict[int, Garment] = {}
        for index, path in enumerate(chunk):
            try:
                garments[index] = find_garment(read_picture(path), background)
            except UserError as error:
                complain(error)
        if garments:
            rows = classify(checkpoint.model, list(garments.values()))
            for (index, garment), probabilities_K in zip(garments.items(), rows, strict=True):
                yield _rank(chunk[index], garment, checkpoint.class_names, probabilities_K)


def _rank(path: Path, garment: Garment, class_names: Sequence[str], probabilities_K: NDArray[np.float32]) -> Prediction:
    order = np.argsort(-probabilities_K, kind="stable")  # stable: of equals the first class comes first
    return Prediction(path, garment, tuple((str(class_names[k]), float(probabilities_K[k])) for k in order))


def _print_all(predictions: Iterable[Prediction], top: int, as_json: bool, keep: int) -> list[Prediction]:
    """Print the predictions as they come, or as one JSON document; give back the first `keep` of them."""
    kept: list[Prediction] = []
    document = []
    for count, prediction in enumerate(predictions):
        if count < keep:
            kept.append(prediction)
        if as_json:
            document.append(_as_json(prediction, top))
        else:
            print(("\n" if count else "") + _as_text(prediction, top))
    if as_json:
        # ASCII: a file's name need not be valid Unicode, and JSON must be.
        print(json.dumps(document, indent=2, allow_nan=False))
    return kept


def _plot(predictions: Sequence[Prediction], path: Path) -> None:
    from stages.lib import plots  # first: it sets the looks of what is drawn after

    figure = plot_prediction(predictions[0]) if len(predictions) == 1 else plot_predictions(predictions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters in a file's name that the font does not have
        plots.save(figure, path)


def _figure(width_inches: float, height_inches: float) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches
    return Figure(figsize=(width_inches, height_inches), layout=layout)


def _as_json(prediction: Prediction, top: int) -> dict[str, object]:
    return {
        "file": str(prediction.path),
        "inverted": prediction.garment.inverted,
        # Rounded: further digits depend on which images are computed together.
        "predictions": [{"class": name, "probability": round(p, 6)} for name, p in prediction.ranking[:top]],
    }


def _as_text(prediction: Prediction, top: int) -> str:
    width = max(len(name) for name, _ in prediction.ranking)
    # The terminal may be one that has no block characters.
    block = "\N{FULL BLOCK}" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    lines = [_printable(str(prediction.path)) + (" (inverted)" if prediction.garment.inverted else "")]
    for name, probability in prediction.ranking[:top]:
        bar = block * round(BAR * probability)
        lines.append(f"  {name:{width}}  {_percent(probability):>7}  {bar}".rstrip())
    return "\n".join(lines)


def _title(prediction: Prediction) -> str:
    name, probability = prediction.ranking[0]
    return f"{name}, {_percent(probability)}"


def _percent(probability: float) -> str:
    return f"{100 * probability:.1f} %"


def _printable(text: str) -> str:
    """Replace what would break the line or command the terminal: file names can hold anything."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _shortened(name: str, length: int) -> str:
    name = _printable(name)
    return name if len(name) <= length else name[: length // 2] + "…" + name[-(length // 2 - 1) :]


if __name__ == "__main__":
    exit_cleanly("predict", main)
    exit_at_once()
