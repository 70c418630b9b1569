"""The whole pipeline, with a way out where there is no network: what `make run` runs.

`dvc repro` fails where FashionMNIST cannot be had. This command falls back to the built-in synthetic images when not
one mirror of the data can be reached. It trains the models at the same time when there are cores for it.
"""

import json
import re
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

from filelock import FileLock, Timeout

from stages.commands.state import is_of_older_code
from stages.commands.yaml_files import PARAMS, PIPELINE, dump_yaml, load_yaml
from stages.lib.base.errors import UserError, exit_cleanly
from stages.lib.base.files import read_json, write_text
from stages.lib.base.lock import read_lock
from stages.lib.base.params import MODEL_NAME, FetchParams, Params, load_params
from stages.lib.base.process import cpus
from stages.lib.results.summary import summary
from stages.lib.source.idx_sets import RAW_FILES
from studies.results import STUDIES, read_seeds

LOCK = Path(".dvc/tmp/run.lock")
IN_USE = Path(".dvc/tmp/rwlock")  # which files DVC's commands are at work on
RAW = Path("data/raw")
STAGE_NAME = re.compile(rf"train_{MODEL_NAME.pattern}")
# What the command `dvc` runs; but Ctrl-C in the tenth of a second that its import takes ends it without a traceback.
START_DVC = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
from dvc.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""
DVC = [sys.executable, "-c", START_DVC]
NOT_FASHION_MNIST = """
******************************************************************************
  NOT FashionMNIST: params.yaml says fetch.source: synthetic. The pipeline {runs}
  on drawn images, and everything it makes says "synthetic".

  With a network, or with the four files in a folder named by
  FASHION_MNIST_MIRROR, set it back to fashion-mnist.
******************************************************************************
"""


def main() -> None:
    """Get the data, run the pipeline, show the comparison."""
    ArgumentParser(prog="python -m stages.commands.run", description="Run the whole pipeline.").parse_args()
    load_params()  # before anything is written: this is the project's folder
    with alone_in_this_folder():
        run_pipeline()


@contextmanager
def alone_in_this_folder() -> Iterator[None]:
    """Wait until no other `make run` works here: two would write the same files, and DVC would end one of them."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(LOCK)
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        print("run: another `make run` is at work in this folder; waiting until it ends", file=sys.stderr)
        held = lock.acquire()
    with held:
        yield


def run_pipeline() -> None:
    """Run it, on drawn images where FashionMNIST cannot be had."""
    params = load_params()
    read_lock()  # or DVC would say of a damaged one what few understand
    for obstacle in obstacles(params):
        raise UserError(obstacle)
    tell_dvc_about_git()
    synthetic = params.fetch.source == "synthetic"
    if params.fetch.source == "fashion-mnist" and not have_raw_files(params.fetch):
        synthetic = True
        set_source("synthetic")
    if synthetic:
        print(NOT_FASHION_MNIST.format(runs="runs"), flush=True)
    status = train_together(trainings_at_once(params)) or dvc("repro")
    if status != 0:
        sys.exit(status)
    print(f"\n{summary()}", flush=True)
    for doubt in doubts():
        print(f"run: warning: {doubt}", file=sys.stderr)
    if study := read_seeds():
        older = ", trained by older code" if is_of_older_code(STUDIES / "seeds") else ""
        print(f"\nEach model with {len(study['seeds'])} seeds, by studies/seeds{older}:", *study["sentences"], sep="\n")
    if synthetic:
        print(NOT_FASHION_MNIST.format(runs="ran"))


def doubts() -> Iterator[str]:
    """Yield why the test images say less than the summary does: prepare says so only when it runs."""
    data = read_json("metrics/data.json")
    if shared := data["shared_images"]["train_test"]:
        yield f"{shared:,} test images are in the training set too: a model may know them by heart"
    if copies := data.get("test_copies"):
        yield f"{copies:,} test images are copies of others: intervals and tests say more than is known"


def obstacles(params: Params) -> Iterator[str]:
    """Yield what DVC would ignore in silence, wait for without end, or end at without a word of the way back."""
    stages = load_yaml(PIPELINE).get("stages") or {}
    trained = [str(stage).removeprefix("train_") for stage in stages if STAGE_NAME.fullmatch(str(stage))]
    evaluated = str(stages["evaluate"]) if "evaluate" in stages else ""
    for name, model in params.models.items():
        if name not in trained or f"models/{name}.safetensors" not in evaluated:
            yield (
                f"params.yaml has {name}, but dvc.yaml does not train and evaluate it; take {name} out of both, and "
                f"`make model NAME={name} ARCH={model.arch}` adds all that it takes"
            )
    for name in trained:
        if name not in params.models:
            yield f"dvc.yaml has a stage train_{name}, but params.yaml has no {name}; add it, or take the stage out"
    for path in Path("metrics/train").glob("model_*.json"):
        if path.stem not in params.models:  # DVC would not evaluate and compare anew, without it
            yield (
                f"params.yaml has no {path.stem} any more, but its results are still here: "
                f"`rm {path} plots/curves/{path.stem}.csv`"
            )
    for path in RAW.glob("*"):
        if not (path.is_file() or path.is_dir()):
            yield f"{path} is a pipe, a device or a broken link; remove it"
    try:
        json.loads(IN_USE.read_text())
    except FileNotFoundError:
        pass
    except ValueError:
        yield f"{IN_USE} is damaged: DVC was ended while it wrote this file; `rm {IN_USE}`, nothing is lost"
    if not is_known_user():
        yield "this system does not know the user; set HOME to a folder that can be written to, and USER to a name"


def is_known_user() -> bool:
    """Tell whether the user has a home folder and a name. DVC needs both; in a container there may be neither."""
    try:
        return bool(Path.home() and getuser())
    except (RuntimeError, KeyError, OSError):
        return False


def tell_dvc_about_git() -> None:
    """Tell DVC where there is no git repository, as in an unpacked archive: untold, it refuses to run there."""
    config = Path(".dvc/config.local")
    told = config.exists() and "no_scm" in config.read_text()
    if not Path(".git").exists() and not told:
        dvc("config", "--local", "core.no_scm", "true")
    elif Path(".git").exists() and told:
        dvc("config", "--local", "--unset", "core.no_scm")


def have_raw_files(params: FetchParams) -> bool:
    """Fetch the raw files, unless they are here or in DVC's cache. Returns False where no mirror can be reached.

    Raises:
        UserError: a mirror was reached, but none gave the files whole; or drawn images would replace published ones.
    """
    from stages.lib.source.mirrors import NoMirrorReached, all_whole, fetch_from_mirrors, mirrors_in_order

    if all_whole(RAW_FILES, RAW):
        return True
    try:
        fetch_from_mirrors(RAW_FILES, mirrors_in_order(params.mirrors), RAW)
    except NoMirrorReached as error:
        if taken_from_dvc_cache():
            return True
        if any(all_whole([file], RAW) for file in RAW_FILES):
            raise
        print(f"run: {error}", file=sys.stderr)
        return False
    return True


def taken_from_dvc_cache() -> bool:
    """Put the raw files in place from DVC's cache, where files lie by md5 checksum. Returns False if it lacks one.

    `dvc checkout --force` deletes the whole folder before it looks whether it has the files.
    """
    from stages.lib.source.download import SourceError
    from stages.lib.source.mirrors import put_in_place

    cache = subprocess.run([*DVC, "cache", "dir"], stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    try:
        put_in_place({file: Path(cache, "files/md5", file.md5[:2], file.md5[2:]) for file in RAW_FILES}, RAW)
    except (SourceError, FileNotFoundError):
        return False
    return True


def set_source(source: str) -> None:
    """Write `fetch.source` into params.yaml; keep all else, comments too."""
    tree = load_yaml(PARAMS)
    tree["fetch"]["source"] = source
    write_text(PARAMS, dump_yaml(tree))


def trainings_at_once(params: Params) -> int:
    """Return for how many trainings there are CPUs."""
    threads = max(map(params.threads, params.models), default=1)
    return cpus() // (threads * params.train.processes)


def train_together(workers: int) -> int:
    """Train the models that must be trained, `workers` at the same time, if that is more than one.

    Plain `dvc repro` processes would collide on shared inputs; single stages take turns at DVC's lock and train outside
    it. What each prints stands in logs/ too.

    Returns:
        The exit status of DVC, 0 if all went well or nothing was done.
    """
    if workers < 2:
        return 0
    status = dvc("repro", "prepare")
    if status != 0:
        return status
    stages = [name for name in load_yaml(PIPELINE)["stages"] if name.startswith("train_")]
    with ThreadPoolExecutor(workers) as pool:
        try:
            return max(pool.map(train_alone, stages))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # the running ones have had their Ctrl-C too; wait for them
            raise


def train_alone(stage: str) -> int:
    """Run one training stage; print and log its lines, marked with its name. Returns DVC's exit status."""
    log = Path("logs") / f"{stage}.log"
    log.parent.mkdir(exist_ok=True)
    command = [*DVC, "--wait-for-lock", "repro", "--single-item", stage]
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            file.flush()
            print(f"{stage.removeprefix('train_')} | {line}", end="", flush=True)
    return process.returncode


def dvc(*arguments: str) -> int:
    """Run DVC and return its exit status. Ctrl-C reaches DVC and its stage as well: wait until they have cleaned up."""
    with subprocess.Popen([*DVC, *arguments]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise


if __name__ == "__main__":
    exit_cleanly("run", main)
