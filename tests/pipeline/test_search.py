"""Searches by real workers and DVC: all trials are there once, whatever is killed or goes away meanwhile."""

import json
import re
import socket
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client
from ruamel.yaml import YAML

from stages.commands.search import shared_place
from stages.commands.search_plan import read_plan
from stages.commands.search_results import read_searches
from stages.commands.search_worker import Unfit, free_clone
from tests.helpers import Shell, start

pytestmark = pytest.mark.slow

SEARCH = f"{sys.executable} -m stages.commands.search --no-test"
PLAN: dict[str, Any] = {
    "name": "try",
    "objective": "metrics/train/model_0.json:test_acc",
    "trials": 3,
    "sampler": "random",
    "params": {"prepare.validation": 100},
    "space": {"model_0.lr": {"low": 0.01, "high": 0.2}},
}
GRID: dict[str, Any] = {"sampler": "grid", "space": {"model_0.lr": [0.02, 0.05, 0.1]}}


@pytest.fixture
def plan(project: Path, shell: Shell) -> dict[str, Any]:
    """A search.yaml in the project, committed."""
    YAML().dump(PLAN, project / "search.yaml")
    shell("git commit -qam 'Plan'")
    return PLAN


def experiments(repository: str, shell: Shell) -> dict[str, str]:
    """Return the experiments of a repository: what git keeps of each, results too, by name."""
    listed = shell(f"git --git-dir='{repository}' for-each-ref --format='%(refname) %(tree)' refs/exps").split()
    return {ref.rpartition("/")[2]: tree for ref, tree in zip(listed[::2], listed[1::2], strict=True)}


def rates(names: list[str], shell: Shell) -> set[str]:
    """Return the learning rates of model_0 in experiments."""
    refs = [f"$(git for-each-ref --format='%(refname)' 'refs/exps/*/*/{name}')" for name in names]
    found = [re.search(r"model_0:.*?  lr: (\S+)", shell(f"git show {ref}:params.yaml"), re.S) for ref in refs]
    return {rate[1] for rate in found if rate}


def printed_until(process: "subprocess.Popen[str]", words: str) -> str:
    """Return what a process prints up to the line with `words`."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


def worker_at_work(driver: int) -> psutil.Process:
    """Return a worker below the process `driver` while DVC runs a trial for it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for process in psutil.Process(driver).children(recursive=True):
            try:
                if "stages.train" in process.cmdline():
                    return process.parents()[2] if process.parent().name() == "sh" else process.parents()[1]
            except psutil.Error:
                continue
        time.sleep(0.05)
    raise AssertionError("no trial has begun")


def test_worker_and_driver_killed(
    project: Path,
    plan: dict[str, Any],
    environment: dict[str, str],
    shell: Shell,
    survived: Callable[..., None],
) -> None:
    with start(f"{SEARCH} --workers 2", environment, stdout=subprocess.PIPE) as driver:
        printed_until(driver, "(1 of 3)")
        killed = worker_at_work(driver.pid)
        killed.kill()
        printed_until(driver, "(2 of 3)")
        driver.kill()
    ended = shell(f"{SEARCH} --workers 1")
    assert "(3 of 3)" in ended

    made = experiments(".git", shell)
    last = max(made)
    assert len(made) == len(rates(list(made), shell)) == 3
    assert not [process for process in psutil.process_iter() if is_in(process, project / ".dvc/tmp/search")]
    assert shell("git status --short") == ""

    (rate,) = rates([last], shell)
    shell(f"dvc exp run -q -n alone -S ++prepare.validation=100 -S model_0.lr={rate} train_model_0")
    assert experiments(".git", shell)["alone"] == made[last]
    shell("git checkout -q .")
    (found,) = read_searches()
    best = found["rows"][0]["name"]
    assert found["trials"] == 3
    shell(f"dvc exp apply {best} && dvc status -q train_model_0")
    assert [each["rows"] for each in read_searches()] == [found["rows"]]  # about the parameters that it has found
    assert Path("models/model_0.safetensors").is_file()  # the data are here as well
    survived("search: a worker, then the driver killed", 2)


def is_in(process: psutil.Process, folder: Path) -> bool:
    """Tell whether a process works in a folder."""
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        return False


@pytest.fixture
def start_cluster(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[[], str]]:
    """`start_cluster()` gives the address of a Dask scheduler with workers that know nothing of the project.

    Two are fit, a third has another torch. Called again, it kills the scheduler, with which the workers end, and starts
    another one at the same address.
    """
    other = tmp_path / "other/torch-0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    processes: list[subprocess.Popen[bytes]] = []

    def run(program: str, options: str, **variables: str) -> "subprocess.Popen[bytes]":
        command = f"{sys.executable} -m distributed.cli.{program} --no-dashboard {options}"
        return subprocess.Popen(command.split(), cwd=tmp_path, env=environment | variables, stderr=subprocess.DEVNULL)

    def begin() -> str:
        for process in processes[:1]:
            process.kill()
            process.wait()
        worker = f"{address} --nthreads 1 --local-directory {tmp_path}"
        started = [run("dask_scheduler", f"--host 127.0.0.1 --port {port}")]
        started += [run("dask_worker", worker), run("dask_worker", worker)]
        first = not processes
        if first:
            started.append(run("dask_worker", worker, PYTHONPATH=str(other.parent)))
        processes[:0] = started
        if first:
            with Client(address, timeout=120) as client:
                client.wait_for_workers(3, timeout=120)  # or the trials might be done before the third has come
        return address

    yield begin
    for process in reversed(processes):
        process.terminate()
        process.wait()


def test_cluster_that_shares_remotes_alone(
    project: Path,
    plan: dict[str, Any],
    start_cluster: Callable[[], str],
    tmp_path: Path,
    environment: dict[str, str],
    shell: Shell,
    survived: Callable[..., None],
) -> None:
    bare, away = tmp_path / "bare.git", tmp_path / "away.git"
    YAML().dump(plan | GRID, project / "search.yaml")
    shell(f"git init -q --bare '{bare}' && git remote add origin '{bare}'")
    shell(f"dvc remote add -q --default storage '{tmp_path}/storage' && git commit -qam 'Storage' && dvc push -q")
    with start(f"{SEARCH} --scheduler {start_cluster()}", environment, stdout=subprocess.PIPE) as driver:
        printed = printed_until(driver, "(1 of 3)")
        bare.rename(away)
        start_cluster()
        away.rename(bare)
        printed += printed_until(driver, "(3 of 3)")
        assert driver.wait() == 0
    assert "torch is 0.1 there" in printed
    assert "the scheduler is gone" in printed

    made = experiments(".git", shell)
    assert experiments(str(bare), shell) == made
    assert sorted(made) == ["try-000", "try-001", "try-002"]

    YAML().dump(plan | GRID | {"name": "one"}, project / "one.yaml")
    shell(f"{SEARCH} --workers 1 one.yaml")
    of_one = {name: tree for name, tree in experiments(".git", shell).items() if name.startswith("one")}
    assert len(set(of_one.values())) == 3
    assert set(of_one.values()) == set(made.values())
    survived("search: remote and scheduler gone, other torch", 3)


ANSWER = """
import json, sys
from pathlib import Path
from stages.commands.search_worker import free_clone
place, trial = json.loads(sys.argv[1])
with free_clone(Path("clones"), place) as clone:
    print(clone.answer(trial)["state"])
"""
SLOW_PUSH = """#!/bin/sh
if [ "$1" = prepared ] && grep -q refs/exps/; then touch locked; sleep 2; fi
"""


def test_worker_killed_while_it_pushes(
    project: Path,
    plan: dict[str, Any],
    tmp_path: Path,
    environment: dict[str, str],
    shell: Shell,
    survived: Callable[..., None],
) -> None:
    bare = tmp_path / "bare.git"
    shell(f"git init -q --bare '{bare}' && git remote add origin '{bare}'")
    hook = bare / "hooks/reference-transaction"  # which git calls when it has locked what is pushed
    hook.write_text(SLOW_PUSH)
    hook.chmod(0o755)
    read, _ = read_plan(Path("search.yaml"))
    place = shared_place(read, Namespace(plan=Path("search.yaml"), scheduler=None)) | {"git": str(bare)}
    shell(f"git push -q origin {place['commit']}:{place['ref']}")
    settings = read.settings({"model_0.lr": 0.1})
    trial = {"name": "try-000", "settings": settings, "target": ["train_model_0"], "reads": read.metrics_file}
    answer = [sys.executable, "-c", ANSWER, json.dumps([place, trial])]

    with subprocess.Popen(answer, env=environment) as worker:
        while not (bare / "locked").exists():
            assert worker.poll() is None
            time.sleep(0.05)
        worker.kill()
    assert subprocess.run(answer, env=environment, check=True, capture_output=True, text=True).stdout == "done\n"
    assert list(experiments(str(bare), shell)) == ["try-000"]
    assert not list(bare.rglob("*.lock"))
    survived("search: a worker killed while it pushes")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is full when a clone has been made and its first trial runs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", disk], capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_full_disk(
    project: Path, plan: dict[str, Any], small_disk: Path, shell: Shell, survived: Callable[..., None]
) -> None:
    read, _ = read_plan(Path("search.yaml"))
    place = shared_place(read, Namespace(plan=Path("search.yaml"), scheduler=None))
    trial = {"name": "try-000", "settings": read.settings({"model_0.lr": 0.1})}
    with pytest.raises(Unfit), free_clone(small_disk, place) as clone:
        clone.answer(trial | {"target": ["train_model_0"], "reads": read.metrics_file})
    assert experiments(".git", shell) == {}
    survived("search: full disk of a worker")
