"""One HTML file that shows it all: `make report`, or `python -m stages.commands.report`.

No stage: it reads what the stages wrote and where that came from, and writes `report.html`, with pictures, styles and
script inside. The file needs no network and no other file. Takes about a second. With `--markdown BASE` it prints what
changed since the commit BASE instead, for a pull request (changes.py).
"""

import argparse
import base64
import math
import platform
from collections.abc import Container
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import UndefinedError

from stages.commands import changes, outputs
from stages.commands.search_results import read_searches
from stages.commands.state import changed, flat, git_state, is_of_older_code
from stages.commands.templates import environment_of
from stages.commands.yaml_files import PARAMS, load_yaml
from stages.lib import plots
from stages.lib.base.batches import effective_images
from stages.lib.base.errors import Outdated, UserError, exit_cleanly
from stages.lib.base.files import NOT_COUNTED, read_json, write_text
from stages.lib.base.lock import read_lock, recorded_versions
from stages.lib.base.timing import TIMING, images_per_second, machine, train_seconds
from stages.lib.base.versions import installed_version, read_versions
from stages.lib.results.statistics import FEW_IMAGES, difference_interval, wilson_interval
from stages.lib.results.summary import ABOUT, pair_text
from studies.results import STUDIES, read_seeds

TEMPLATE = Path(__file__).with_suffix(".html.j2")
# Knobs of a recipe by which its figures on training images are not those of the model that came of it.
APART = {"augment": "its training images were varied at random", "ema": "its weights were averaged afterwards"}
LEFT_OUT = "a part of its units was left out at random while it learned"  # by layers of the kind Dropout
FAR_POINTS = 2  # a gap between two accuracies, in points of percent, that the report takes for large
HIDDEN_POINTS = 10  # a gap that chance may hide, where there are too few images to say that there is none
PNG_SIZE = slice(16, 24)  # width and height in the header of a PNG file, four bytes each


def main() -> None:
    """Gather, fill in, write."""
    options = parse_options()
    if options.markdown and not options.output:
        print(changes.render(options.markdown, options.repository), end="")
        return
    output: Path = options.output or Path("report.html")
    write_text(output, changes.render(options.markdown, options.repository) if options.markdown else render())
    where = "" if options.markdown else ": open it in any browser"
    print(f"wrote {output} ({output.stat().st_size / 1024:,.0f} KiB){where}")


def render() -> str:
    """Return the report as HTML.

    Raises:
        UserError: something that a stage writes is missing or damaged.
    """
    # Names of files, branches and classes are text, whatever is in them.
    environment = environment_of(TEMPLATE.parent, autoescape=True)
    environment.filters["picture"] = picture
    environment.filters["pair_text"] = pair_text
    try:
        return environment.get_template(TEMPLATE.name).render(gather())
    except (KeyError, UndefinedError) as missing:
        raise UserError(f"metrics/ or plots/ lack {missing}: older code wrote them; run `dvc repro`") from None


def gather() -> dict[str, Any]:
    """Return the data for the template; it loads pictures itself."""
    comparison = outputs.read_checked("metrics/compare.json", outputs.COMPARISON)
    names = list(comparison["models"])
    lock = read_lock()
    params = params_used(lock)
    used = {each["key"]: each["used"] for each in params}
    layers = {name: outputs.read_checked(f"plots/layers/{name}.csv", outputs.LAYERS) for name in names}
    data = outputs.read_checked("metrics/data.json", outputs.DATA)
    evaluated = {name: outputs.read_checked(f"metrics/eval/{name}.json", outputs.EVALUATION) for name in names}
    trained = {name: over_images(name, evaluated[name]) for name in names}
    apart = not_known(trained, data, used) | measured_apart(used, layers)
    seconds = {name: train_seconds(name) for name in names}
    speeds = {name: images_per_second(name) for name in names}
    return {
        "comparison": comparison,
        "models": comparison["models"],
        "best": {"name": comparison["best"], **comparison["models"][comparison["best"]]},
        "evaluated": evaluated,
        "data": data,
        "trained": trained,
        "about": ABOUT,
        "study": read_seeds(),
        "older_code": is_of_older_code(STUDIES / "seeds"),
        "searches": read_searches(),
        "far_points": FAR_POINTS,
        "apart": apart,
        "smoothed": [name for name in names if used.get(f"{name}.label_smoothing")],
        "overfit": [name for name in names if name not in apart and excess_points(trained[name]) >= FAR_POINTS],
        "underfit": find_underfit(trained, apart),
        "train_seconds": seconds,
        "images_per_second": speeds,
        "machine": ", with ".join([machine(), *devices(seconds, speeds)]),
        "speed": speed_chart(comparison, seconds, speeds),
        "curves": {name: outputs.read_checked(f"plots/curves/{name}.csv", outputs.CURVE) for name in names},
        "layers": layers,
        "not_counted": NOT_COUNTED,
        "by_chance": errors_by_chance(outputs.read_checked("plots/reliability.csv", outputs.BINS)),
        "classes": [with_interval(row) for row in outputs.read_checked("plots/per_class.csv", outputs.CLASSES)],
        "few_images": FEW_IMAGES,
        "params": params,
        "git": git_state(),
        "lock": lock,
        "changed": changed(names),
        "versions": versions(lock),
        "python": platform.python_version(),
    }


def picture(path: str | Path, alt: str) -> dict[str, Any]:
    """Return what an `<img>` needs to show a PNG file of ours: its bytes as a data URI, its size, and `alt` in words.

    Raises:
        UserError: the file is missing.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise Outdated(path) from None
    size = content[PNG_SIZE]
    return {
        "src": f"data:image/png;base64,{base64.b64encode(content).decode()}",
        "inches": int.from_bytes(size[:4], "big") / plots.PIXELS_PER_INCH,
        "width": int.from_bytes(size[:4], "big"),
        "height": int.from_bytes(size[4:], "big"),
        "alt": alt,
    }


def with_interval(row: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a class with the 95 % confidence interval of its recall, in percent."""
    low, high = wilson_interval(round(row["recall"] * row["images"]), row["images"])
    return {**row, "recall_low": low, "recall_high": high}


def errors_by_chance(bins: list[dict[str, Any]]) -> dict[str, float]:
    """Return the calibration error, in percent, that chance alone would show of each model, were it well calibrated.

    The fewer images a bin has, the further chance takes its accuracy from the confidence.
    """
    of_models: dict[str, list[tuple[int, float]]] = {}
    for each in bins:
        gap = gap_by_chance(each["images"], each["confidence_pct"] / 100)
        of_models.setdefault(each["model"], []).append((each["images"], gap))
    return {
        name: 100 * sum(images * gap for images, gap in found) / sum(images for images, _ in found)
        for name, found in of_models.items()
    }


def gap_by_chance(images: int, probability: float) -> float:
    """Return how far, on average, the proportion of right images is from the probability that each of them is right.

    The mean absolute deviation of a binomial, by de Moivre's formula. Source: P. Diaconis, S. Zabell, Closed form
    summation for classical distributions, Statistical Science 6 (1991).
    """
    if not 0 < probability < 1:
        return 0.0
    right = min(math.floor(images * probability) + 1, images)
    ways = math.lgamma(images + 1) - math.lgamma(right + 1) - math.lgamma(images - right + 1)
    return (
        2
        * right
        / images
        * math.exp(ways + right * math.log(probability) + (images - right + 1) * math.log1p(-probability))
    )


def measured_apart(used: dict[str, Any], layers: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Return the models whose accuracies on training images and on others cannot be compared, and why."""
    reasons = {name: [why for key, why in APART.items() if used.get(f"{name}.{key}")] for name in layers}
    for name, rows in layers.items():
        reasons[name] += [LEFT_OUT] if any("Dropout" in row["kind"] for row in rows) else []
    return {name: " and ".join(why) for name, why in reasons.items() if why}


def over_images(name: str, evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a training, and the accuracy over all images held out as `test_acc`.

    The training's own is a mean over batches: of 33 images in batches of 32 the last weighs as much as all others.
    """
    training: dict[str, Any] = outputs.read_checked(f"metrics/train/{name}.json", outputs.TRAINING)
    held_out = evaluation["validation"] if training["watched"] == "validation" else evaluation
    return training | {"test_acc": held_out["accuracy"]}


def not_known(trained: dict[str, dict[str, Any]], data: dict[str, Any], used: dict[str, Any]) -> dict[str, str]:
    """Return the models of which the images held out do not say whether they overfit, and why."""
    found = {}
    for name, each in trained.items():
        watched = each["watched"]
        images, copies = data["counts"].get(watched, 0), data["shared_images"].get(f"train_{watched}", 0)
        learned = effective_images(data["counts"]["train"], used.get(f"{name}.batch_size", 1))
        seen, unseen = (
            (accuracy, *wilson_interval(round(accuracy / 100 * count), count))
            for accuracy, count in ((each["train_acc"], learned), (each["test_acc"], images))
        )
        _, least, most = difference_interval(unseen, seen)
        ahead = excess_points(each)
        if ahead >= FAR_POINTS:
            if least <= 0:
                found[name] = f"with {images:,} {watched} images chance alone may make them differ so far"
        elif copies and ahead + 100 * copies / images >= FAR_POINTS:
            found[name] = f"{copies:,} of the {images:,} {watched} images are training images too"
        elif most >= HIDDEN_POINTS:
            found[name] = f"with {images:,} {watched} images chance alone may hide {most:.0f} points"
    return found


def excess_points(training: dict[str, Any]) -> float:
    """Return by how many points a model is better on its training images than on those held out."""
    return float(training["train_acc"] - training["test_acc"])


def find_underfit(trained: dict[str, dict[str, Any]], apart: Container[str]) -> str | None:
    """Return the model that is far behind another on training images and last on those held out; None if none is.

    Those `apart` are not compared on training images.
    """
    compared = {name: each for name, each in trained.items() if name not in apart}
    if not compared:
        return None
    worst, best = (choose(compared, key=lambda name: compared[name]["train_acc"]) for choose in (min, max))
    behind = trained[best]["train_acc"] - trained[worst]["train_acc"] >= FAR_POINTS
    last = trained[worst]["test_acc"] == min(each["test_acc"] for each in trained.values())
    return worst if behind and last and excess_points(trained[worst]) < FAR_POINTS else None


def speed_chart(
    comparison: dict[str, Any], seconds: dict[str, float | None], speeds: dict[str, float | None]
) -> dict[str, Any] | None:
    """Draw accuracy against the times measured here; None where nothing was."""
    models = comparison["models"]
    measured = {"Training time (s)": list(seconds.values()), "Test images per second": list(speeds.values())}
    if not any(time for times in measured.values() for time in times):
        return None
    accuracies = [row["accuracy"] for row in models.values()]
    data_set = comparison.get("data_set", comparison["source"])
    figure = plots.accuracy_against_costs(list(models), accuracies, measured, "Test accuracy against speed", data_set)
    with TemporaryDirectory() as folder:
        plots.save(figure, path := Path(folder) / "speed.png")
        return picture(path, "Accuracy of each model against training time and images per second.")


def devices(seconds: dict[str, float | None], speeds: dict[str, float | None]) -> list[str]:
    """Return what the times that are shown were measured on, other than the processor: cuda, mps."""
    files = [name for name, measured in seconds.items() if measured] + ["inference"] * any(speeds.values())
    return sorted({str(read_json(TIMING / f"{file}.json").get("device", "cpu")) for file in files} - {"cpu"})


def params_used(lock: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each parameter with the value that the stages ran with, and the one in params.yaml now."""
    now = dict(flat(load_yaml(PARAMS)))
    used: dict[str, Any] = {}
    locked: set[str] = set()
    for stage in lock.values():
        for block, values in stage.get("params", {}).get("params.yaml", {}).items():
            locked.add(block)
            for key, value in flat(values, block):
                same = used.setdefault(key, value) == value  # or a stage is frozen, say, and ran with an older one
                used[key] = value if same else f"{used[key]} in some stages, {value} in others"
    for key in now:
        if not any(f"{key}.".startswith(f"{block}.") for block in locked):  # no stage has recorded it
            used[key] = now[key]
    keys = [*now, *(key for key in used if key not in now)]
    return [{"key": key, "used": used.get(key), "now": now.get(key)} for key in keys]


def versions(lock: dict[str, Any]) -> list[dict[str, str]]:
    """Return each library with the version that the stages recorded, and the one installed now."""
    used = recorded_versions(lock) or read_versions()
    return [{"library": library, "used": used[library], "now": installed_version(library)} for library in used]


def parse_options() -> argparse.Namespace:
    """Return what to write, and where, from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.commands.report", description="Write the results as one HTML file, or what changed."
    )
    parser.add_argument("-o", "--output", type=Path, help="default: report.html; with --markdown: standard output")
    parser.add_argument("--markdown", metavar="BASE", help="what changed since the commit BASE, as Markdown of GitHub")
    parser.add_argument(
        "--repository",
        metavar="ADDRESS",
        default=changes.address_of_repository(),
        help="where readers find its pictures: https://github.com/OWNER/NAME; on a runner of GitHub its own",
    )
    return parser.parse_args()


if __name__ == "__main__":
    exit_cleanly("report", main)
