"""Check the committed results: `python -m stages.commands.verify`, or `make verify`.

Clones the committed state into a temporary folder, runs the whole pipeline there from the raw files, with no cache, and
compares output by output: the same bytes, the same within tolerance, or changed. Takes as long as `make run` on a fresh
clone, one to two minutes on two idle cores.

With `--no-run`, which is `make check-lock`, it runs nothing: are the committed results those that dvc.lock records, and
would DVC run no stage of the commit? Takes some seconds.

Exit status: 0 all outputs have the same bytes, 2 some differ within tolerance, 3 some have changed, 1 it could not
run, or without a run: a stage is out of date or frozen.
"""

import csv
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.commands.state import checked_git
from stages.commands.yaml_files import PIPELINE, STUDY_PIPELINES
from stages.lib.base.errors import NO_WAY_BACK, UserError, exit_cleanly, printable
from stages.lib.base.files import md5_of
from stages.lib.base.lock import read_lock, recorded_versions
from stages.lib.base.versions import installed_version
from stages.lib.source.download import scheme_of
from stages.lib.source.image_sets import PROJECT
from stages.lib.source.mirrors import VARIABLE

Verdict = tuple[str, str]  # on one output: the word for it, and how far it is off

SAME, WITHIN, CHANGED = "same bytes", "within tolerance", "CHANGED"
EXIT_STATUS = {SAME: 0, WITHIN: 2, CHANGED: 3}
NOT_AS_RECORDED = (CHANGED, "what is committed, or in DVC's cache, is not what dvc.lock records")
NOT_IN_LOCK = (CHANGED, "dvc.lock as committed does not know it")
# What git keeps of what stages wrote, and nothing else: folders, and files of the studies.
RESULTS = ("metrics", "plots", "studies/*.json", "studies/*.csv", "studies/*.png")
RELATIVE_TOLERANCE = 0.02  # of each number; sums round differently on another processor, and training amplifies that
MOST_DIFFERENT = 0.05  # proportion of the entries that may lie beyond it
FARTHEST = 0.2  # relative, of a number in a JSON file: none may lie beyond this, and no word may differ
NEGLIGIBLE = 1e-6  # numbers below it count as this large: a p-value of 1e-107 may as well be 1e-100


@dataclass(frozen=True)
class Promise:
    """What the committed state promises of one output."""

    md5: str  # in dvc.lock; of a folder whose files nobody knows here it ends in .dir
    content: bytes | None  # from git or from this project's DVC cache; None if it is in neither

    @property
    def kept(self) -> bool:
        """Tell whether what is committed is what dvc.lock says."""
        return self.content is None or md5_of(self.content) == self.md5.removesuffix(".dir")


def main() -> None:
    """Clone, run, compare, print."""
    run = parse_arguments()
    if not Path(".git").exists():
        raise UserError("there is no git repository here, so no committed state to verify")
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        clone = Path(folder) / "clone"
        checked_git("clone", "--quiet", "--no-hardlinks", ".", str(clone))
        lock = read_lock(clone)
        if not lock:
            raise UserError("dvc.lock is not committed: run `dvc repro` and commit its results")
        print(describe_commit(clone), flush=True)
        promises, studies = read_promises(clone, lock), read_studies(clone)
        verdicts = dict.fromkeys(unknown(results_in_git(clone), promises | studies), NOT_IN_LOCK)
        verdicts |= judge_new_run(clone, promises) if run else judge_committed(promises)
        studied = judge_committed(studies)
        verdicts |= {path: each for path, each in studied.items() if not run or each[0] != SAME}
        results = [verdict for verdict, _ in verdicts.values()]
        asked = not run and not set(results) - {SAME}
        outdated, old_studies = (find_outdated(clone), find_old_studies(clone)) if asked else ([], [])

    print_table(verdicts if run else {path: each for path, each in verdicts.items() if each[0] != SAME})
    worst = max(results, key=lambda verdict: EXIT_STATUS[verdict], default=SAME)
    if run:
        print(f"\n{results.count(SAME)} of {len(results)} outputs have the same bytes; worst: {worst}")
    else:
        print(f"{results.count(SAME)} of the {len(results)} outputs in git or DVC's cache are what dvc.lock records")
        if elsewhere := promises.keys() - verdicts.keys():
            print(
                f"{len(elsewhere)} more are in neither, and were not looked at: `dvc pull` or `dvc repro` brings them"
            )
        for study in old_studies:
            print(f"{study} is of older code, parameters or data: `make studies` runs it again")
        print(*outdated, sep="\n", end="\n" if outdated else "")
    if worst != SAME:
        again = "`dvc repro` makes them again, those of studies `make studies`; then commit"
        print(describe_versions(lock) if run else again)
    elif outdated:
        raise UserError("dvc.lock does not match: see above; unfreeze or show what is hidden, run dvc repro, commit it")
    sys.exit(EXIT_STATUS[worst])


def describe_commit(clone: Path) -> str:
    """Say what is verified: the commit that is checked out, and nothing that is not committed."""
    commit = printable(checked_git("-C", str(clone), "log", "-1", "--no-show-signature", "--format=%h of %cs, %s"))
    changes = len(checked_git("status", "--porcelain", "--untracked-files=normal").splitlines())
    return f"commit {commit}" + (f"; changes that are not committed, {changes} here, are left out" if changes else "")


def describe_versions(lock: dict[str, Any]) -> str:
    """Say which libraries have other versions here than those that made the committed results."""
    versions = [(library, used, installed_version(library)) for library, used in recorded_versions(lock).items()]
    differ = [f"{library} {used}, here {here}" for library, used, here in versions if used != here]
    made_with = f"made with {'; '.join(differ)}" if differ else "made with the library versions that are here"
    return (
        f"The committed results were {made_with}. This is Python {platform.python_version()}; theirs is not recorded."
    )


def read_promises(clone: Path, lock: dict[str, Any]) -> dict[str, Promise]:
    """Return what dvc.lock promises of each file, in the order of the pipeline.

    A folder is one line in dvc.lock. The list of its files comes from DVC's cache, or from the folder in git; a folder
    whose list is in neither, or not as promised, stands for itself.
    """
    promises: dict[str, Promise] = {}
    for path, md5 in outputs_in(lock).items():
        if not md5.endswith(".dir"):
            promises[path] = Promise(md5, content_of(path, md5, clone))
            continue
        listing = listing_of(clone / path) if (clone / path).is_dir() else content_of(path, md5, clone)
        folder = Promise(md5, listing)
        if listing is None or not folder.kept:
            promises[path] = folder
            continue
        for entry in json.loads(listing):
            file = f"{path}/{entry['relpath']}"
            promises[file] = Promise(entry["md5"], content_of(file, entry["md5"], clone))
    return promises


def read_studies(clone: Path) -> dict[str, Promise]:
    """Return what the studies promise of their cells and results; paths in their dvc.lock are those of the project."""
    locks = [read_lock(file.parent) for file in sorted(clone.glob(STUDY_PIPELINES))]
    return {path: promise for lock in locks for path, promise in read_promises(clone, lock).items()}


def read_made(clone: Path) -> dict[str, str]:
    """Return path and md5 of every output that is there: folders, and the files in them."""
    made: dict[str, str] = {}
    for path in outputs_in(read_lock(clone)):
        if (clone / path).is_dir():
            listing = listing_of(clone / path)
            made |= {path: f"{md5_of(listing)}.dir"}
            made |= {f"{path}/{entry['relpath']}": entry["md5"] for entry in json.loads(listing)}
        elif (clone / path).is_file():
            made[path] = md5_of((clone / path).read_bytes())
    return made


def unknown(paths: Iterable[str], promises: Iterable[str]) -> list[str]:
    """Return the paths that are not promised, nor in a promised folder, nor the folder of something promised."""

    def holds(folder: str, path: str) -> bool:
        return path == folder or path.startswith(f"{folder}/")

    return [path for path in paths if not any(holds(path, each) or holds(each, path) for each in promises)]


def outputs_in(lock: dict[str, Any]) -> dict[str, str]:
    """Return path and md5 of every output in dvc.lock, in the order of the pipeline."""
    return {out["path"]: out["md5"] for stage in lock.values() for out in stage.get("outs", [])}


def results_in_git(clone: Path) -> list[str]:
    """Return the committed files that look like results, whatever dvc.lock says of them."""
    return [file for file in files_in_git(clone, *RESULTS) if not Path(file).name.startswith(".")]


def files_in_git(clone: Path, *folders: str) -> list[str]:
    """Return the committed files in some folders, or all."""
    return checked_git("-C", str(clone), "ls-files", "-z", *folders).split("\0")[:-1]


def listing_of(folder: Path) -> bytes:
    """Return the list of the files in `folder` as DVC writes it; the md5 of the list is the md5 of the folder."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    entries = [{"md5": md5_of(file.read_bytes()), "relpath": name} for name, file in sorted(files.items())]
    return json.dumps(entries, sort_keys=True).encode()


def content_of(path: str, md5: str, clone: Path) -> bytes | None:
    """Return the committed content of an output: from git, or from this project's DVC cache if it is there."""
    for file in (clone / path, Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]):
        if file.is_file():
            return file.read_bytes()
    return None


def reproduce(clone: Path) -> None:
    """Run the pipeline in `clone` from the raw files: those here, or fetched as in any fresh clone.

    Raises:
        UserError: a stage failed.
    """
    environment = dict(os.environ)
    mirror = environment.get(VARIABLE, "").strip() or "data/raw"
    if not scheme_of(mirror) and Path(mirror).is_dir():
        environment[VARIABLE] = str(Path(mirror).resolve())  # the clone is another folder
    environment[PROJECT] = str(Path.cwd())  # where images of one's own lie, by a relative path too
    environment[NO_WAY_BACK] = "1"  # what fails in the clone leaves the project alone
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache"]
    with subprocess.Popen(command, cwd=clone, env=environment) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.wait()  # it has had the Ctrl-C too, and cleans up
            raise
    if status != 0:
        raise UserError("the committed pipeline does not run to its end; the stage above says why")


def judge_committed(promises: dict[str, Promise]) -> dict[str, Verdict]:
    """Judge without a run, by checksum. Left out is what is neither in git nor in DVC's cache."""
    return {
        path: (SAME, "") if promise.kept else NOT_AS_RECORDED
        for path, promise in promises.items()
        if promise.content is not None
    }


def find_outdated(clone: Path) -> list[str]:
    """Return what DVC would run in `clone`, and what it does not look at: frozen stages, hidden code. Needs no data.

    Raises:
        UserError: DVC cannot tell.
    """
    done = dry_run(clone, PIPELINE)
    if done.returncode != 0:
        raise UserError(f"dvc.lock does not match the committed pipeline; DVC says: {' '.join(done.stderr.split())}")
    code = [str(file.relative_to(clone)) for file in sorted((clone / "stages").rglob("*.py"))]
    hidden = ask_dvc(clone, "check-ignore", *code).stdout.splitlines() if code else []
    return [
        *re.findall(r".*(?:Running stage|is frozen).*", done.stdout + done.stderr),
        *(f"{path} is hidden by .dvcignore: when it is edited, DVC runs nothing" for path in hidden),
    ]


def find_old_studies(clone: Path) -> list[str]:
    """Return the studies of which DVC would run something again, or for which it fails: it looks for data there."""
    pipelines = sorted(file.relative_to(clone) for file in clone.glob(STUDY_PIPELINES))
    runs = {str(pipeline.parent): dry_run(clone, pipeline) for pipeline in pipelines}
    return [study for study, done in runs.items() if done.returncode or "Running stage" in done.stdout]


def dry_run(clone: Path, pipeline: Path) -> "subprocess.CompletedProcess[str]":
    """Ask DVC what it would run of a pipeline."""
    return ask_dvc(clone, "repro", "--allow-missing", "--dry", str(pipeline))


def ask_dvc(clone: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of DVC in `clone` that changes nothing."""
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, encoding="utf-8", check=False)


def judge_new_run(clone: Path, promises: dict[str, Promise]) -> dict[str, Verdict]:
    """Run the pipeline again and judge what it makes.

    The committed outputs are removed before: what is there afterwards was made, whatever dvc.lock says. DVC does not
    run a frozen stage.
    """
    committed = files_in_git(clone)
    for path in set(committed) - set(unknown(committed, promises)):
        (clone / path).unlink()
    reproduce(clone)
    made = read_made(clone)
    tensors = [path for path in promises if path.endswith(".safetensors")]
    amplified = any(made.get(path) != promises[path].md5 for path in tensors)
    verdicts = {path: compare(path, promise, made.get(path), clone, amplified) for path, promise in promises.items()}
    return verdicts | dict.fromkeys(unknown(made, promises), NOT_IN_LOCK)


def compare(path: str, promise: Promise, made: str | None, clone: Path, amplified: bool) -> Verdict:
    """Return the verdict on one output and, unless it is the same, how far it is off; `made` is its md5 now."""
    if made is None:
        return CHANGED, "not made any more"
    if not promise.kept:
        return NOT_AS_RECORDED
    if promise.md5 == made:
        return SAME, ""
    if promise.content is None:
        return CHANGED, "the committed bytes are not at hand to compare with: `dvc pull`"
    old, new = (list(values_of(path, data)) for data in (promise.content, (clone / path).read_bytes()))
    if not old or len(old) != len(new):
        return CHANGED, "a picture or another format" if not old else f"{len(old)} entries before, {len(new)} now"
    return judge(old, new, path.endswith(".json"), amplified)


def judge(old: list[Any], new: list[Any], exact_words: bool, amplified: bool = True) -> Verdict:
    """Compare two lists of numbers and words, entry by entry: the metrics of a JSON file, or a long table.

    In a table a few entries may be anything: an image that is taken for another class changes a whole line. But where
    no training has `amplified` the rounding, models and predictions being the same, only last digits may differ.
    """
    pairs = list(zip(old, new, strict=True))
    numbers = [(a, b) for a, b in pairs if isinstance(a, float) and isinstance(b, float)]
    off = [relative_difference(a, b) for a, b in numbers if a != b and not (math.isnan(a) and math.isnan(b))]
    words = sum(a != b for a, b in pairs if not (isinstance(a, float) and isinstance(b, float)))
    beyond, farthest = sum(difference > RELATIVE_TOLERANCE for difference in off), max(off, default=0.0)
    if not amplified:
        within = not words and farthest <= NEGLIGIBLE
    elif exact_words:
        within = not words and farthest <= FARTHEST and beyond <= MOST_DIFFERENT * len(numbers)
    else:
        within = beyond + words <= MOST_DIFFERENT * len(pairs)
    text = f"{len(off) + words} of {len(pairs)} entries differ, numbers by up to {farthest:.2g}"
    return (WITHIN if within else CHANGED), text


def relative_difference(old: float, new: float) -> float:
    """Return how far two numbers lie apart, relative to the larger; infinite if one of them is no finite number."""
    difference = abs(old - new) / max(abs(old), abs(new), NEGLIGIBLE)
    return difference if math.isfinite(difference) else math.inf


def values_of(path: str, content: bytes) -> Iterator[Any]:
    """Yield the numbers, as floats, and words of a JSON, CSV or safetensors file; nothing for other formats."""
    if path.endswith(".json"):
        yield from _leaves(json.loads(content))
    elif path.endswith(".csv"):
        for row in csv.reader(content.decode().splitlines()):
            yield from (_number_or_word(entry) for entry in row)
    elif path.endswith(".safetensors"):
        from safetensors.numpy import load

        for _, array in sorted(load(content).items()):
            yield from array.ravel().astype(float).tolist()


def print_table(verdicts: dict[str, Verdict]) -> None:
    """Print a row for each output: the verdict and, unless it is the same, how far it is off."""
    if not verdicts:
        return
    width = max(len(path) for path in verdicts)
    print(f"\n{'output':<{width}}  result")
    for path, (verdict, difference) in verdicts.items():
        print(f"{printable(path):<{width}}  {verdict}{f': {difference}' if difference else ''}")


def parse_arguments() -> bool:
    """Return from the command line whether to run the pipeline."""
    parser = ArgumentParser(prog="python -m stages.commands.verify", description="Make the committed results again.")
    parser.add_argument(
        "--no-run",
        action="store_true",
        help="run nothing: does dvc.lock match code, parameters and results?",
    )
    return not parser.parse_args().no_run


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
