"""Reading YAML files of the project with their comments, and writing them as `dvc exp run -S` does."""

from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.lib.base.params import read_yaml

PARAMS, PIPELINE = Path("params.yaml"), Path("dvc.yaml")
STUDY_PIPELINES = "studies/*/dvc.yaml"  # of many trainings each


def load_yaml(path: Path) -> Any:
    """Read a YAML file, with comments and the lines on which its entries stand."""
    return read_yaml(_yaml(), path)


def dump_yaml(tree: Any) -> str:
    """Return `tree` as YAML, comments included."""
    text = StringIO()
    _yaml().dump(tree, text)
    return text.getvalue()


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1000
    return yaml
