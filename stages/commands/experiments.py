"""Say of which experiments the figures are of other parameters than theirs: the end of `make experiments`.

DVC's table puts what a commit has in params.yaml beside what it has in metrics/. Where one training ran alone, as in a
trial of a search, or params.yaml was edited and nothing ran, the one is not what the other was made with.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.commands.state import git, older_than_read
from stages.commands.yaml_files import PARAMS, PIPELINE
from stages.lib.base.errors import exit_cleanly, printable
from stages.lib.base.lock import LOCK

EXPERIMENT = re.compile(r"refs/exps/([0-9a-f]{2}/[0-9a-f]{38})/(.+)")
AFTERWARDS = "confusion"  # makes no figure of the table
MOST_NAMED = 3


def main() -> None:
    """Look at the workspace, the commit and its experiments; at all experiments where `dvc exp show` has options."""
    found: dict[str, list[str]] = {}
    for name, revision in states(everywhere=len(sys.argv) > 1):
        if why := contradiction(revision):
            found.setdefault(why, []).append(name)
    for why, names in found.items():
        named = ", ".join(map(printable, names[:MOST_NAMED]))
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        what = "accuracies and best model are not of the parameters beside them"
        print(f"experiments: warning: {named}{more}: {what}: {why}", file=sys.stderr)


def states(*, everywhere: bool) -> Iterator[tuple[str, str | None]]:
    """Yield name and revision of what the table shows; no revision stands for the workspace."""
    yield "workspace", None
    head = git("rev-parse", "HEAD") or ""
    yield head[:7], head
    for line in (git("for-each-ref", "--format=%(refname)", "refs/exps") or "").splitlines():
        if (found := EXPERIMENT.fullmatch(line)) and (everywhere or found[1].replace("/", "") == head):
            yield found[2], line


def contradiction(revision: str | None) -> str:
    """Say what ran, or was edited, since the figures of a commit were made; nothing if nothing did."""
    stages, lock, params = (tree_of(revision, path) for path in (PIPELINE, Path(LOCK), PARAMS))
    known = stages.get("stages", {}).keys() - {AFTERWARDS}
    runs = {stage: run for stage, run in lock.get("stages", {}).items() if stage.partition("@")[0] in known}
    for stage, path in older_than_read(runs):
        return f"{stage} has not run since {path} was made"
    for stage, run in runs.items():
        for key, value in run.get("params", {}).get(PARAMS.name, {}).items():
            if value_of(params, key) != value:
                return f"{key} was edited since {stage} ran"
    return ""


def tree_of(revision: str | None, path: Path) -> dict[str, Any]:
    """Return what a YAML file holds in a commit, or here; nothing where it is missing or damaged."""
    if revision:
        text = git("show", f"{revision}:{path}") or ""
    else:
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    try:
        tree = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError):
        tree = None
    return tree if isinstance(tree, dict) else {}


def value_of(tree: Any, key: str) -> Any:
    """Return what stands under a key such as `fetch.source`; None where there is nothing."""
    for step in key.split("."):
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


if __name__ == "__main__":
    exit_cleanly("experiments", main)
