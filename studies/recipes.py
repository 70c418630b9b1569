"""Say what the cells of a study say of recipes: `python -m studies.recipes seeds model`.

Cells with the same value of the key given (`model`, `arch`) are trainings of one recipe, which differ in their seed.
Writes the accuracies as a table and as a picture, and what they amount to.
"""

from argparse import ArgumentParser
from dataclasses import asdict
from itertools import combinations
from typing import Any

from stages.lib import plots
from stages.lib.base.errors import exit_cleanly
from stages.lib.base.files import write_csv, write_json
from stages.lib.base.versions import check_versions
from studies import pictures
from studies.results import STUDIES, made_from_of, read_cells
from studies.statistics import compare_recipes, pair_sentence, spread_of

COLUMNS = ["seed", "accuracy", "loss", "correct", "images"]


def main() -> None:
    """Read, test, draw, write."""
    study, key = parse_arguments()
    check_versions("matplotlib", "numpy", "pillow", "scipy")
    cells = read_cells(study)
    results = describe(cells, key)
    picture = pictures.accuracies_by_seed(results["recipes"], results["seeds"], results["data_set"])
    rows = [[cell[column] for column in (key, *COLUMNS)] for cell in cells]
    write_csv(STUDIES / study / "accuracies.csv", [key, *COLUMNS], rows)
    plots.save(picture, STUDIES / study / "accuracies.png")
    write_json(STUDIES / study / "results.json", results)
    for name, recipe in results["recipes"].items():
        print(
            f"{name}: {recipe['mean']:.2f} % on average (95 % interval {recipe['low']:.2f} to {recipe['high']:.2f}), "
            f"{recipe['lowest']:.2f} to {recipe['highest']:.2f}, median {recipe['median']:.2f}"
        )
    print(*results["sentences"], sep="\n")


def describe(cells: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """Return mean, interval and range of each recipe, and the test of each pair."""
    made_from = made_from_of(cells, key)
    accuracies = {name: [cell["accuracy"] for cell in cells if cell[key] == name] for name in made_from}
    failed = {name: [cell["seed"] for cell in cells if cell[key] == name and cell["chance"]] for name in made_from}
    pairs = compare_recipes(accuracies, list(combinations(accuracies, 2)))
    return {
        "data_set": cells[0]["data_set"],
        "images": cells[0]["images"],
        "seeds": list(dict.fromkeys(cell["seed"] for cell in cells)),
        "recipes": {
            name: {"accuracies": each, **asdict(spread_of(each, least=0)), "failed": failed[name]}
            for name, each in accuracies.items()
        },
        "pairs": [asdict(pair) for pair in pairs],
        "sentences": [*map(pair_sentence, pairs), *(failure(*each) for each in failed.items() if each[1])],
        "made_from": made_from,
    }


def failure(name: str, seeds: list[int]) -> str:
    """Say with which seeds a recipe gives a model that is no better than chance."""
    return f"{name} learns nothing with {'the seed' if len(seeds) == 1 else 'the seeds'} {', '.join(map(str, seeds))}"


def parse_arguments() -> tuple[str, str]:
    """Return the study and the key that tells recipes apart from the command line."""
    parser = ArgumentParser(prog="python -m studies.recipes", description="Compare the recipes of a study.")
    parser.add_argument("study", help="a folder in studies, such as seeds")
    parser.add_argument("key", help="what tells recipes apart: model or arch")
    options = parser.parse_args()
    return options.study, options.key


if __name__ == "__main__":
    exit_cleanly("recipes", main)
