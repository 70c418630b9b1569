"""Say how accuracy depends on the number of parameters: `python -m studies.parameters`, of studies/frontier."""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ruamel.yaml import YAML

from stages.lib import plots
from stages.lib.base.errors import exit_cleanly
from stages.lib.base.files import write_csv, write_json
from stages.lib.base.params import read_yaml
from stages.lib.base.versions import check_versions
from studies import pictures
from studies.results import STUDIES, made_from_of, read_cells
from studies.statistics import spread_of

FOLDER = STUDIES / "frontier"
PUBLISHED_ON = "FashionMNIST"  # of other images published figures say nothing
COLUMNS = ["model", "parameters", "seed", "accuracy", "loss", "correct", "images"]


def main() -> None:
    """Read, average, draw, write."""
    ArgumentParser(prog="python -m studies.parameters", description="Compare numbers of parameters.").parse_args()
    check_versions("matplotlib", "numpy", "pillow", "scipy")
    cells = read_cells("frontier")
    known = read_yaml(YAML(typ="safe", pure=True), FOLDER / "params.yaml")
    results = describe(cells, known["limits"])
    models = summary_of(read_cells("seeds"))
    published = known["published"] if results["data_set"] == PUBLISHED_ON else []
    picture = pictures.accuracy_by_parameters(results["recipes"], models, published, results["data_set"])
    write_csv(FOLDER / "accuracies.csv", COLUMNS, [[cell[each] for each in COLUMNS] for cell in cells])
    plots.save(picture, FOLDER / "accuracies.png")
    write_json(FOLDER / "results.json", results)
    for name, recipe in results["recipes"].items():
        print(
            f"{recipe['parameters']:>7,} parameters: {recipe['mean']:.2f} % on average "
            f"({recipe['lowest']:.2f} to {recipe['highest']:.2f}), {name}"
        )
    for record in results["records"]:
        print(f"at most {record['most_parameters']:,}: {record['mean']:.2f} % by {record['recipe']}")


def describe(cells: list[dict[str, Any]], limits: Sequence[int]) -> dict[str, Any]:
    """Return parameters and accuracies of each recipe, and the best with at most so many parameters, for each limit."""
    recipes = summary_of(cells)
    records = []
    for limit in limits:
        within = [name for name, recipe in recipes.items() if recipe["parameters"] <= limit]
        if within:
            best = max(within, key=lambda name: recipes[name]["mean"])
            records.append({"most_parameters": limit, "recipe": best, "mean": recipes[best]["mean"]})
    return {
        "data_set": cells[0]["data_set"],
        "images": cells[0]["images"],
        "seeds": list(dict.fromkeys(cell["seed"] for cell in cells)),
        "recipes": recipes,
        "records": records,
        "made_from": made_from_of(cells, "model"),
    }


def summary_of(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return for each recipe its parameters, and the spread of the accuracies of its cells."""
    accuracies: dict[str, list[float]] = {}
    for cell in cells:
        accuracies.setdefault(cell["model"], []).append(cell["accuracy"])
    parameters = {cell["model"]: cell["parameters"] for cell in cells}
    return {
        name: {"parameters": parameters[name], "accuracies": each, **asdict(spread_of(each, least=0))}
        for name, each in accuracies.items()
    }


if __name__ == "__main__":
    exit_cleanly("parameters", main)
