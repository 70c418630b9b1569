"""The whole pipeline, kindly: what `make run` runs.

`dvc repro` is strict: FashionMNIST or an error. This command runs the same pipeline, trains the models at the same time
when there are cores for it, and takes the built-in synthetic images when not one mirror of the data can be reached.
"""

import os
import subprocess
import sys
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ruamel.yaml import YAML

from stages.lib.base.errors import exit_cleanly
from stages.lib.base.files import replacing
from stages.lib.base.params import FetchParams, Params, load_params
from stages.lib.results.summary import comparison_text
from stages.lib.source.fashion_mnist import RAW_FILES

RAW = Path("data/raw")
PARAMS = Path("params.yaml")
# As `python -m dvc`, but Ctrl-C while it imports ends it without a traceback.
START_DVC = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
import dvc.cli.parser, dvc.repo.open_repo, dvc.repo.reproduce
from dvc.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""
DVC = [sys.executable, "-c", START_DVC]
FALLBACK = """
******************************************************************************
  NOT FashionMNIST: no mirror of it could be reached. The pipeline {runs} on
  drawn images instead, and everything it makes says "synthetic".

  params.yaml now says fetch.source: synthetic. With a network, or with the four
  files in a folder named by FASHION_MNIST_MIRROR, set it back to fashion-mnist.
******************************************************************************
"""


def main() -> None:
    """Have the data, run the pipeline, show the comparison."""
    ArgumentParser(prog="python -m stages.commands.run", description="Run the whole pipeline, kindly.").parse_args()
    params = load_params()
    say_whether_git_is_here()
    fall_back = params.fetch.source == "fashion-mnist" and not have_raw_files(params.fetch)
    if fall_back:
        print(FALLBACK.format(runs="runs"), flush=True)
        set_source("synthetic")
    status = train_together(trainings_at_once(params)) or dvc("repro")
    if status != 0:
        sys.exit(status)
    print(f"\n{comparison_text()}")
    if fall_back:
        print(FALLBACK.format(runs="ran"))


def say_whether_git_is_here() -> None:
    """Tell DVC: an unpacked archive has no git repository, and DVC refuses to run there until it is told."""
    config = Path(".dvc/config.local")
    told = config.exists() and "no_scm" in config.read_text()
    if not Path(".git").exists() and not told:
        dvc("config", "--local", "core.no_scm", "true")
    elif Path(".git").exists() and told:
        dvc("config", "--local", "--unset", "core.no_scm")


def have_raw_files(params: FetchParams) -> bool:
    """Fetch the raw files, unless they are here; gives whether they are, false when no mirror can be reached.

    Raises:
        UserError: a mirror was reached, but none gave the files whole.
    """
    from stages.lib.source.mirrors import NoMirrorReached, all_whole, fetch_from_mirrors, mirrors_in_order

    if all_whole(RAW_FILES, RAW):
        return True
    try:
        fetch_from_mirrors(RAW_FILES, mirrors_in_order(params.mirrors), RAW)
    except NoMirrorReached as error:
        print(f"run: {error}", file=sys.stderr)
        in_cache = dvc("checkout", "--quiet", "fetch", quiet=True) == 0
        return in_cache and all_whole(RAW_FILES, RAW)
    return True


def set_source(source: str) -> None:
    """Write `fetch.source` into params.yaml, all else and the comments as they are."""
    yaml = YAML()  # keeps comments
    yaml.preserve_quotes = True
    yaml.width = 1000
    tree = yaml.load(PARAMS)
    tree["fetch"]["source"] = source
    with replacing(PARAMS) as temporary:
        yaml.dump(tree, temporary)


def trainings_at_once(params: Params) -> int:
    """For how many trainings there are CPUs: those that this process may run on, which may be fewer than there are."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(map(params.threads, params.models), default=1)
    return cpus // (threads * params.train.processes)


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
    pipeline = YAML(typ="safe", pure=True).load(Path("dvc.yaml"))["stages"]
    stages = [name for name in pipeline if name.startswith("train_")]
    with ThreadPoolExecutor(workers) as pool:
        try:
            return max(pool.map(train_alone, stages))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # the running ones have had their Ctrl-C too; wait for them
            raise


def train_alone(stage: str) -> int:
    """Run one training stage; print and log its lines, marked with its name. Gives DVC's exit status."""
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


def dvc(*arguments: str, quiet: bool = False) -> int:
    """Run DVC and give its exit status. Ctrl-C reaches DVC and its stage as well: wait until they have cleaned up."""
    silence = subprocess.DEVNULL if quiet else None
    with subprocess.Popen([*DVC, *arguments], stdout=silence, stderr=silence) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise


if __name__ == "__main__":
    exit_cleanly("run", main)
