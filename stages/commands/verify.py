"""Check the committed results: `python -m stages.commands.verify`, or `make verify`.

Clones the committed state into a temporary folder, runs the whole pipeline there from the raw files, with no cache, and
compares output by output: the same bytes, the same within tolerance, or changed. Takes as long as `make run` on a fresh
clone, one to two minutes on two idle cores.

Exit status: 0 all outputs have the same bytes, 2 some differ within tolerance, 3 some have changed, 1 it could not run.
"""

import csv
import json
import math
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.lib.base.errors import UserError, exit_cleanly
from stages.lib.base.files import read_json

SAME, WITHIN, CHANGED, APART = "same bytes", "within tolerance", "CHANGED", "timing, not compared"
EXIT_STATUS = {SAME: 0, WITHIN: 2, CHANGED: 3}
RELATIVE_TOLERANCE = 0.02  # of each number; sums round differently on another processor, and training amplifies that
MOST_DIFFERENT = 0.05  # share of the entries that may lie beyond it
FARTHEST = 0.2  # relative, of a figure in a JSON file: none may lie beyond this, and no word may differ
NEGLIGIBLE = 1e-6  # numbers below it count as this large: a p-value of 1e-107 may as well be 1e-100
TIMING = Path("metrics/timing")


def main() -> None:
    """Clone, run, compare, say."""
    ArgumentParser(
        prog="python -m stages.commands.verify", description="Make the committed results again."
    ).parse_args()
    if not Path(".git").exists():
        raise UserError("there is no git repository here, so no committed state to verify")
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        clone = Path(folder) / "clone"
        git("clone", "--quiet", "--no-hardlinks", ".", str(clone))
        committed = locked_outputs(clone)
        contents = {path: content_of(path, md5, clone) for path, md5 in committed.items()}
        reproduce(clone)
        made = locked_outputs(clone)
        verdicts = [
            (path, *compare(path, md5, made.get(path), contents[path], clone / path)) for path, md5 in committed.items()
        ]
        machine = machine_differences(contents, clone)

    width = max(len(path) for path, _, _ in verdicts)
    print(f"\n{'output':<{width}}  result")
    for path, verdict, difference in verdicts:
        print(f"{path:<{width}}  {verdict}{f': {difference}' if difference else ''}")
    compared = [verdict for _, verdict, _ in verdicts if verdict != APART]
    worst = max(compared, key=lambda verdict: EXIT_STATUS[verdict])
    print(f"\n{compared.count(SAME)} of {len(compared)} outputs have the same bytes; worst: {worst}")
    print(*machine, sep="\n")
    sys.exit(EXIT_STATUS[worst])


def locked_outputs(clone: Path) -> dict[str, str]:
    """Path and md5 of every output in dvc.lock, in the order of the pipeline.

    Raises:
        UserError: there is no dvc.lock, so nothing was ever promised.
    """
    try:
        lock = YAML(typ="safe", pure=True).load(clone / "dvc.lock")
    except FileNotFoundError:
        raise UserError("dvc.lock is not committed: run `dvc repro` and commit its results") from None
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


def content_of(path: str, md5: str, clone: Path) -> bytes | None:
    """The committed content of an output: from git, or from this project's DVC cache if it is there."""
    for place in (clone / path, Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]):
        if place.is_file():
            return place.read_bytes()
    return None


def reproduce(clone: Path) -> None:
    """Run the pipeline in `clone` from the raw files: those here, or fetched as in any fresh clone.

    Raises:
        UserError: a stage failed.
    """
    environment = dict(os.environ)
    raw = Path("data/raw").resolve()
    if raw.is_dir():
        environment.setdefault("FASHION_MNIST_MIRROR", str(raw))
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache"]
    with subprocess.Popen(command, cwd=clone, env=environment) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.wait()  # it has had the Ctrl-C too, and cleans up
            raise
    if status != 0:
        raise UserError("the committed pipeline does not run to its end; the stage above says why")


def compare(path: str, before: str, after: str | None, content: bytes | None, made: Path) -> tuple[str, str]:
    """The verdict on one output and, unless it is the same, how far it is off. `before` and `after` are md5 sums."""
    if Path(path).is_relative_to(TIMING):
        return APART, ""
    if before == after:
        return SAME, ""
    if after is None:
        return CHANGED, "not made any more"
    if content is None:
        return CHANGED, "the committed bytes are not at hand to compare with: `dvc pull`"
    old, new = (list(values_of(path, data)) for data in (content, made.read_bytes()))
    if not old or len(old) != len(new):
        return CHANGED, "a picture or another format" if not old else f"{len(old)} entries before, {len(new)} now"
    return judge(old, new, figures=path.endswith(".json"))


def judge(old: list[Any], new: list[Any], figures: bool) -> tuple[str, str]:
    """Compare two lists of numbers and words, entry by entry: the figures of a JSON file, or a long table.

    In a table a few entries may be anything: an image that is taken for another class changes a whole line.
    """
    pairs = list(zip(old, new, strict=True))
    numbers = [(a, b) for a, b in pairs if isinstance(a, float) and isinstance(b, float)]
    off = [abs(a - b) / max(abs(a), abs(b), NEGLIGIBLE) for a, b in numbers if a != b]
    words = sum(a != b for a, b in pairs if not (isinstance(a, float) and isinstance(b, float)))
    beyond, farthest = sum(difference > RELATIVE_TOLERANCE for difference in off), max(off, default=0.0)
    if figures:
        within = not words and farthest <= FARTHEST and beyond <= MOST_DIFFERENT * len(numbers)
    else:
        within = beyond + words <= MOST_DIFFERENT * len(pairs)
    text = f"{len(off) + words} of {len(pairs)} entries differ, numbers by up to {farthest:.2g}"
    return (WITHIN if within else CHANGED), text


def values_of(path: str, content: bytes) -> Iterator[Any]:
    """The numbers, as floats, and words of a JSON, CSV or safetensors file; nothing for other formats."""
    if path.endswith(".json"):
        yield from _leaves(json.loads(content))
    elif path.endswith(".csv"):
        for row in csv.reader(content.decode().splitlines()):
            yield from (_number_or_word(entry) for entry in row)
    elif path.endswith(".safetensors"):
        from safetensors.numpy import load

        for _, array in sorted(load(content).items()):
            yield from array.ravel().astype(float).tolist()


def machine_differences(contents: dict[str, bytes | None], clone: Path) -> list[str]:
    """What about the machine differs from the one that made the committed results."""
    lines = []
    for path, content in contents.items():
        if Path(path).is_relative_to(TIMING) and path.endswith(".json") and content:
            before, now = json.loads(content), read_json(clone / path)
            lines += [
                f"{path}: {key} was {before.get(key)}, is {now[key]}"
                for key in ("device", "processes", "threads", "torch", "cpu_capability")
                if key in now and before.get(key) != now[key]
            ]
    return lines or ["device, processes, threads, torch and CPU capability are those of the committed run"]


def git(*arguments: str) -> None:
    """Run git.

    Raises:
        UserError: git failed; the message is its own.
    """
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"git {arguments[0]} failed: {' '.join(done.stderr.split())}")


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _number_or_word(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


if __name__ == "__main__":
    exit_cleanly("verify", main)
