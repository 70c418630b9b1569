"""What a search found, kept for the report in searches/NAME/results.json."""

from pathlib import Path
from typing import Any

from stages.lib.base.errors import UserError
from stages.lib.base.files import read_json
from stages.lib.base.params import Params, load_params

SEARCHES = Path("searches")  # a folder for each search, by its name: journal, table, pictures, results
RESULTS = "results.json"


def training_params(params: Params, model: str) -> dict[str, Any]:
    """Return the parameters that decide on the training of a model, by their keys in params.yaml."""
    whole = params.model_dump(
        mode="json", include={"seed", "fetch", "prepare", "train"}, exclude={"fetch": {"mirrors"}}
    )
    return whole | {model: params.model(model).model_dump(mode="json")}


def with_settings(tree: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return nested parameters with some of them changed, named by their full keys: `model_2.lr`."""
    changed = dict(tree)
    for key, value in settings.items():
        block, _, rest = key.partition(".")
        inner = changed.get(block)
        changed[block] = with_settings(inner if isinstance(inner, dict) else {}, {rest: value}) if rest else value
    return changed


def read_searches() -> list[dict[str, Any]]:
    """Return the results of the searches that params.yaml is about: those that began with it, or that found it."""
    found = [read_json(path) | {"folder": path.parent} for path in sorted(SEARCHES.glob(f"*/{RESULTS}"))]
    try:
        params = load_params()
    except UserError:  # about nothing that could be trained
        return []
    return [each for each in found if _is_about(each, params)]


def _is_about(results: dict[str, Any], params: Params) -> bool:
    model, start = results["model"], results["params"]
    if model not in params.models:
        return False
    return training_params(params, model) in (start, with_settings(start, results["rows"][0]["settings"]))
