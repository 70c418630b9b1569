"""Say of which experiments the figures are of other parameters than theirs: the end of `make experiments`.

DVC's table puts what a commit has in params.yaml beside what it has in metrics/. Where one training ran alone, as in a
trial of a search, or params.yaml was edited and nothing ran, the one is not what the other was made with.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from stages.commands.state import State, git, older_than_read
from stages.commands.yaml_files import PARAMS, PIPELINE
from stages.lib.base.errors import UserError, exit_cleanly, printable
from stages.lib.base.inputs import value_of
from stages.lib.base.lock import LOCK

EXPERIMENT = re.compile(r"refs/exps/([0-9a-f]{2}/[0-9a-f]{38})/(.+)")
AFTERWARDS = "confusion"  # makes no figure of the table
MOST_NAMED = 3


def main() -> None:
    """Look at the workspace, the commit and its experiments; at all experiments where `dvc exp show` has options."""
    found: dict[str, list[str]] = {}
    for state in states(everywhere=len(sys.argv) > 1):
        if why := contradiction(state):
            found.setdefault(why, []).append(state.name)
    for why, names in found.items():
        named = ", ".join(map(printable, names[:MOST_NAMED]))
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        what = "accuracies and best model are not of the parameters beside them"
        print(f"experiments: warning: {named}{more}: {what}: {why}", file=sys.stderr)


def states(*, everywhere: bool) -> Iterator[State]:
    """Yield what the table shows: the workspace, the commit, experiments."""
    yield State(None, "workspace")
    head = git("rev-parse", "HEAD") or ""
    yield State(head, head[:7])
    for line in (git("for-each-ref", "--format=%(refname)", "refs/exps") or "").splitlines():
        if (found := EXPERIMENT.fullmatch(line)) and (everywhere or found[1].replace("/", "") == head):
            yield State(line, found[2])


def contradiction(state: State) -> str:
    """Say what ran, or was edited, since the figures of a state were made; nothing if nothing did."""
    stages, lock, params = (tree_of(state, str(path)) for path in (PIPELINE, LOCK, PARAMS))
    known = stages.get("stages", {}).keys() - {AFTERWARDS}
    runs = {stage: run for stage, run in lock.get("stages", {}).items() if stage.partition("@")[0] in known}
    for stage, path in older_than_read(runs):
        return f"{stage} has not run since {path} was made"
    for stage, run in runs.items():
        for key, value in run.get("params", {}).get(PARAMS.name, {}).items():
            if value_of(params, key) != value:
                return f"{key} was edited since {stage} ran"
    return ""


def tree_of(state: State, path: str) -> dict[str, Any]:
    """Return what a YAML file holds; nothing where it is missing or damaged."""
    with suppress(UserError):
        return state.tree(path)
    return {}


if __name__ == "__main__":
    exit_cleanly("experiments", main)
