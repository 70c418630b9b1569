"""The cells of a study, one JSON file for each training, and its results.

A study has a cell for each combination of the values under `matrix` in its dvc.yaml. The cell is named after them:
`studies/seeds/cells/model_0-42.json`.
"""

from itertools import product
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.lib.base.errors import UserError
from stages.lib.base.files import read_json
from stages.lib.base.params import load_params, read_yaml
from studies.record import DATA, MODELS, made_from

STUDIES = Path("studies")


def read_cells(study: str) -> list[dict[str, Any]]:
    """Return the cells of a study in the order of its dvc.yaml; not those that are left over from other models.

    Raises:
        UserError: one is missing.
    """
    yaml = YAML(typ="safe", pure=True)
    matrix = read_yaml(yaml, STUDIES / study / "dvc.yaml")["stages"]["cell"]["matrix"]
    known = {**read_yaml(yaml, MODELS), **read_yaml(yaml, STUDIES / study / "params.yaml")}
    values = [known[name.strip("${}")] for name in matrix.values()]
    return [read_cell(STUDIES / study / "cells" / f"{cell_name(each)}.json") for each in product(*values)]


def cell_name(values: tuple[Any, ...]) -> str:
    """Return the name of a cell; a model stands in it by its name."""
    return "-".join(str(value["name"] if isinstance(value, dict) else value) for value in values)


def read_cell(path: Path) -> dict[str, Any]:
    """Read a cell.

    Raises:
        UserError: it is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path} is missing; run `make studies`")
    return read_json(path)


def made_from_of(cells: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """Return for each value of `key` what its cells were made from.

    Raises:
        UserError: cells of the same value were made from several things, as where a study was stopped half-way.
    """
    found = {str(cell[key]): cell["made_from"] for cell in cells}
    for cell in cells:
        if cell["made_from"] != found[str(cell[key])]:
            raise UserError(
                f"cells of {cell[key]} were made from different parameters or data; `make studies` mends it"
            )
    return found


def read_seeds() -> dict[str, Any] | None:
    """Return the results of studies/seeds if they are about the models, parameters and images as they are now."""
    path = STUDIES / "seeds" / "results.json"
    if not path.exists() or not DATA.exists():
        return None
    try:
        params = load_params()
    except UserError:  # about nothing that could be trained
        return None
    results = read_json(path)
    now = {name: made_from(params.model(name), params.train.precision) for name in params.models}
    return results if results["made_from"] == now else None
