"""How fast a search is: `python -m tests.bench_search rate`, or `python -m tests.bench_search driver`.

rate: trials a minute of `make search` with 1, 2 and 4 workers, and of `dvc queue start -j 2`, on the same twenty trials
of model_1, in turns. Works on copies of a clone of the committed state, reproduced with validation images; it needs the
raw files in DVC's cache. The queue runs the whole pipeline, as it does by default, and once more up to the training.

driver: what the driver needs for each trial, with workers that only sleep: values from Optuna, the journal, Dask. CPU
times hold on a busy machine too; all else needs a machine that has nothing else to do.
"""

import argparse
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any

import dask
import optuna
from distributed import Client, LocalCluster
from ruamel.yaml import YAML

from stages.commands.search import keep as keep_answer
from stages.commands.search import missing_trials, open_study, run_trials
from stages.commands.search_plan import Plan
from tests.helpers import set_keys

optuna.logging.set_verbosity(optuna.logging.WARNING)
STALLED = 900  # seconds after which the queue, which stalls now and then, has failed
PLAN = {
    "name": "bench",
    "objective": "metrics/train/model_1.json:test_acc",
    "sampler": "grid",
    "params": {"prepare.validation": 6000},
}


def main() -> None:
    """Measure one of the two."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench_search", description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["rate", "driver"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=20, help="of rate, in each round")
    parser.add_argument("--workers", type=int, nargs="+", help="1 2 4 for rate, 64 for driver")
    parser.add_argument("--seconds", type=float, default=5.0, help="that a trial of driver sleeps")
    arguments = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f} at the start")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        if arguments.what == "rate":
            rate(Path(folder), arguments.workers or [1, 2, 4], arguments.rounds, arguments.trials)
        else:
            for workers in arguments.workers or [64]:
                with chdir(folder):
                    driver(workers, arguments.seconds)


def rate(folder: Path, workers: list[int], rounds: int, trials: int) -> None:
    """Print trials a minute of the search and of the queue."""
    ready(folder / "ready")
    rates = [round(0.01 * 1.2**number, 4) for number in range(trials)]
    contestants: dict[str, Any] = {"dvc queue start -j 2": lambda: queue(rates)}
    contestants["dvc queue start -j 2, up to train_model_1"] = lambda: queue(rates, "train_model_1")
    for number in workers:
        contestants[f"make search, {number} worker(s)"] = lambda number=number: search(rates, number)
    minutes: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            copy = shutil.copytree(folder / "ready", folder / "copy", symlinks=True)
            with chdir(copy):
                start = time.perf_counter()
                contestant()
                minutes[name].append((time.perf_counter() - start) / 60)
                end_queue()
                assert len(experiments()) == trials, f"{name}: {experiments()}"
            shutil.rmtree(copy, ignore_errors=True)
            print(f"{name}: {60 * minutes[name][-1]:.1f} s", file=sys.stderr)
    for name, each in minutes.items():
        found = [trials / minute for minute in each]
        print(f"{name:<45} {statistics.median(found):6.1f} trials/min ({min(found):.1f} to {max(found):.1f})")


def ready(folder: Path) -> None:
    """Make a clone of the committed state, with results of validation images."""
    cache = run("dvc cache dir").strip()
    run(f"git clone --quiet . '{folder}'")
    shutil.copytree(cache, folder / ".dvc/cache")
    with chdir(folder):
        run("git config user.name Bench && git config user.email bench@example.com")
        run("dvc checkout --quiet data/raw")
        set_keys(Path("params.yaml"), {"prepare.validation": 6000})
        run("dvc repro --quiet")
        run("git add --all && git commit --quiet -m 'Validation images'")


def search(rates: list[float], workers: int) -> None:
    """Run the trials as a search."""
    YAML().dump(PLAN | {"trials": len(rates), "space": {"model_1.lr": rates}}, Path("search.yaml"))
    run(f"{sys.executable} -m stages.commands.search --no-test --workers {workers}")


def queue(rates: list[float], target: str = "") -> None:
    """Run the trials by DVC's queue."""
    choices = ",".join(map(str, rates))
    run(f"dvc exp run --queue -S 'model_1.lr=choice({choices})' {target}")
    run("dvc queue start -j 2")
    deadline = time.monotonic() + STALLED
    while len(experiments()) < len(rates):  # not by `dvc queue status`, which takes a second of a CPU each time
        assert time.monotonic() < deadline, run("dvc queue status")
        time.sleep(0.2)


def end_queue() -> None:
    """Kill the queue's workers, if there are any: `dvc queue stop --kill` may wait for minutes."""
    for path in Path(".dvc/tmp/exps/celery").glob("*.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(path.read_text()), signal.SIGKILL)


def experiments() -> list[str]:
    """Return the experiments of the repository in the current folder."""
    return run("git for-each-ref 'refs/exps/??/*/*'").splitlines()


def run(command: str) -> str:
    """Run a command in the current folder and return what it prints."""
    return subprocess.run(command, shell=True, stdout=subprocess.PIPE, text=True, check=True).stdout


def sleep(place: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
    """Stand for a trial that takes some seconds, and succeeds."""
    time.sleep(place["seconds"])
    return {"state": "done", "metrics": {"test_acc": 90 - abs(trial["settings"]["model_2.lr"] - 0.01)}}


def driver(workers: int, seconds: float, trials_per_worker: int = 5) -> None:
    """Print how long a search takes beyond the time that its trials sleep."""
    trials = workers * trials_per_worker
    axes = {"low": 0.001, "high": 0.1, "log": True}
    space = {f"model_2.{key}": axes for key in ("lr", "weight_decay", "momentum", "ema", "label_smoothing")}
    objective = "metrics/train/model_2.json:test_acc"
    plan = Plan.model_validate({"name": "bench", "objective": objective, "trials": trials, "space": space})
    run("git init --quiet --bare empty.git")
    study = open_study(plan, {"git": "empty.git", "commit": "0" * 40}, Path())
    options: dict[str, Any] = {"processes": False, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    dask.config.set({"distributed.worker.profile.enabled": False})  # looks at each thread a hundred times a second
    asked = kept = 0.0

    def timed() -> Any:
        nonlocal asked
        proposals = missing_trials(plan, study)
        while True:
            start = time.thread_time()
            trial = next(proposals, None)
            asked += time.thread_time() - start
            if trial is None:
                return
            yield trial

    with LocalCluster(n_workers=workers, **options) as cluster, Client(cluster) as client:
        start, begin = time.perf_counter(), time.thread_time()
        for trial, answer in run_trials(client, {"seconds": seconds}, timed(), {}, run=sleep):
            before = time.thread_time()
            keep_answer(plan, study, trial, answer)
            kept += time.thread_time() - before
        wall, cpu = time.perf_counter() - start, time.thread_time() - begin
    print(f"{workers} workers, {trials} trials of {seconds} s: {wall:.1f} s, {trials_per_worker * seconds:.1f} at best")
    each = [f"{1000 * part / trials:.0f} ms {what}" for part, what in ((asked, "for values"), (kept, "to keep it"))]
    print(f"driver's thread, CPU for each trial: {1000 * cpu / trials:.0f} ms, of these {' and '.join(each)}")
    print(f"busy workers: {100 * trials * seconds / workers / wall:.0f} %")
    Path("journal.log").unlink()
    shutil.rmtree("empty.git")


if __name__ == "__main__":
    main()
