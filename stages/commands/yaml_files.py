"""Editing YAML files of the project: comments, order of keys and the style of lists stay as they are."""

from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

INDENTS = {"dvc.yaml": {"mapping": 2, "sequence": 4, "offset": 2}}  # params.yaml as `dvc exp run -S` writes it


def load_yaml(path: Path) -> Any:
    """Read a YAML file, comments included."""
    return _yaml(path).load(path)


def dump_yaml(path: Path, tree: Any) -> str:
    """Return `tree` as the text of the file `path`."""
    text = StringIO()
    _yaml(path).dump(tree, text)
    return text.getvalue()


def _yaml(path: Path) -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1000
    yaml.indent(**INDENTS.get(path.name, {}))
    return yaml
