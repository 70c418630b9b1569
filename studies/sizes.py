"""Say how accuracy depends on the number of training images: `python -m studies.sizes`, of studies/data_size."""

from argparse import ArgumentParser
from typing import Any

from stages.lib import plots
from stages.lib.base.errors import exit_cleanly
from stages.lib.base.files import write_csv, write_json
from stages.lib.base.versions import check_versions
from studies import pictures
from studies.results import STUDIES, made_from_of, read_cells
from studies.statistics import spread_of

FOLDER = STUDIES / "data_size"
COLUMNS = ["model", "train_images", "seed", "accuracy", "loss", "correct", "images"]


def main() -> None:
    """Read, average, draw, write."""
    ArgumentParser(prog="python -m studies.sizes", description="Compare numbers of training images.").parse_args()
    check_versions("matplotlib", "numpy", "pillow", "scipy")
    cells = read_cells("data_size")
    results = describe(cells)
    picture = pictures.accuracy_by_size(cells, results["data_set"])
    write_csv(FOLDER / "accuracies.csv", COLUMNS, [[cell[each] for each in COLUMNS] for cell in cells])
    plots.save(picture, FOLDER / "accuracies.png")
    write_json(FOLDER / "results.json", results)
    for size in results["sizes"]:
        means = ", ".join(f"{name} {mean:.2f} %" for name, mean in size["means"].items())
        print(f"{size['train_images']:>6,} images: {means}; best: {size['best']}")


def describe(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return for each number of training images the mean accuracy and the range of each model, and the best model."""
    made_from = made_from_of(cells, "model")
    sizes = []
    for images in sorted({cell["train_images"] for cell in cells}):
        spreads = {
            name: spread_of([c["accuracy"] for c in cells if (c["model"], c["train_images"]) == (name, images)])
            for name in made_from
        }
        sizes.append(
            {
                "train_images": images,
                "means": {name: spread.mean for name, spread in spreads.items()},
                "lowest": {name: spread.lowest for name, spread in spreads.items()},
                "highest": {name: spread.highest for name, spread in spreads.items()},
                "best": max(spreads, key=lambda name: spreads[name].mean),
            }
        )
    return {"data_set": cells[0]["data_set"], "images": cells[0]["images"], "sizes": sizes, "made_from": made_from}


if __name__ == "__main__":
    exit_cleanly("sizes", main)
