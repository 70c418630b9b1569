"""What a worker of a search does: run one trial in a clone of its own, and push the experiment that comes of it.

Driver and workers share a git remote and a DVC remote, and nothing else: no lock, no file system. This file imports
nothing of ours, for Dask sends its code to workers on machines that have the libraries and not the project.

A worker may be killed at any point, and its trial given to another. What counts is the experiment on the git remote: it
is pushed last, when its data are on the DVC remote, and a trial whose experiment is there is never run again.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from itertools import count
from pathlib import Path
from typing import Any

import dask
from distributed import get_worker

STORAGE = "search"  # what a clone calls the DVC remote of a search on one machine
PAUSES = (1, 2, 4, 8, 16, 32, 64)  # seconds between tries to reach a remote: it may be gone for a minute or two
NO_SPACE = os.strerror(errno.ENOSPC)
FULL = 64 * 2**20  # bytes free on a disk that counts as full after a failure: git and DVC have many words for it
# A stage's own words, or the end of a traceback; not `model_1: ...`, nor a warning, nor what git says.
STAGE_SAYS = re.compile(r"(?!error|fatal|hint|remote)[a-z]+: (?!warning)|\w*(Error|Exception)\b")
# What DVC says of a remote that it does not reach. Of a stage that failed it says "failed to run".
AWAY = re.compile(
    r"connect|timed? ?out|refused|reset by peer|unreachable|unavailable|resolve|resolution|stale file|endpoint",
    re.IGNORECASE,
)
# Runs DVC's commands in one process, for DVC takes a second to start. All of its process group dies with the worker:
# DVC and its stage would go on in a clone that another worker may take.
RUN_DVC = """
import json, os, signal, sys, threading, time
worker = int(sys.argv[1])
def watch():
    while os.getppid() == worker:
        time.sleep(0.2)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
from dvc.cli import main
for command in json.loads(sys.argv[2]):
    status = main(command)
    if status:
        sys.exit(status)
"""


class Unfit(Exception):  # noqa: N818 - a state of the worker
    """This worker cannot run trials: its disk is full, its libraries are others, it reaches no remote."""


def run_trial(place: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
    """Run one trial, unless its experiment is on the git remote already, and return what came of it.

    Plain dictionaries come and go, for a worker may have this code from the driver alone.

    Args:
        place: `git` and `storage`, where results go (no `storage`: the DVC remote that the commit names); `commit` to
            start from, and `ref` that has it on the git remote; `versions` of the libraries; `author` of commits.
        trial: `name` of the experiment, `settings` by their full keys, `target` stages, `reads`: a metrics file.

    Returns:
        `state`, and `metrics` of a trial that is done, or the `reason` of one that failed or of a worker that is unfit.
    """
    worker = get_worker()
    try:
        check_versions(place["versions"])
        with free_clone(Path(worker.local_directory).parent, place) as clone:
            return clone.answer(trial)
    except (Unfit, OSError) as error:
        return {"state": "unfit", "reason": str(error), "worker": worker.address}


def check_versions(wanted: dict[str, str]) -> None:
    """Check that the libraries here are the driver's: other versions may give other bytes.

    Raises:
        Unfit: names the first that is another.
    """
    for library, version in wanted.items():
        here = next((found.version.partition("+")[0] for found in distributions(name=library)), "none")
        if here != version:
            raise Unfit(f"{library} is {here} there, but {version} here; install what requirements.txt says")


@contextmanager
def free_clone(folder: Path, place: dict[str, Any]) -> Iterator["Clone"]:
    """Yield the first clone in which no process works; make it where it is missing.

    What DVC runs has the lock file open as well: a clone is free when the last process in it has ended.
    """
    clones = folder / "clones" / hashlib.sha256(place["git"].encode()).hexdigest()[:8]
    clones.mkdir(parents=True, exist_ok=True)
    for number in count():
        with (clones / f"{number}.lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            clone = Clone(clones / str(number), place, lock.fileno())
            if os.fstat(lock.fileno()).st_size:  # killed in the middle of something: who knows in which state it is
                shutil.rmtree(clone.folder, ignore_errors=True)
            os.truncate(lock.name, 0)
            lock.write("at work\n")
            lock.flush()
            yield clone
            os.truncate(lock.name, 0)
            return


class Clone:
    """A clone of the project that stays warm: data, prepared images and DVC's cache are there for the next trial."""

    def __init__(self, folder: Path, place: dict[str, Any], lock: int) -> None:
        self.folder, self.place, self.lock = folder, place, lock

    def answer(self, trial: dict[str, Any]) -> dict[str, Any]:
        """Return what came of a trial; run it unless somebody has."""
        name = trial["name"]
        if not self.pushed(name):
            self.check_out()
            failure = self.run(trial)
            if failure:
                return {"state": "failed", "reason": failure}
            self.push(trial)
        commit = self.pushed(name)
        if self.process(["git", "cat-file", "-e", commit]).returncode:
            self.git_remote("fetch", "--quiet", self.place["git"], self.ref(name))
        return {"state": "done", "metrics": json.loads(self.git("show", f"{commit}:{trial['reads']}"))}

    def ref(self, name: str) -> str:
        """Return the full name that DVC gives to an experiment on top of our commit."""
        commit = self.place["commit"]
        return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"

    def pushed(self, name: str) -> str:
        """Return the commit of an experiment on the git remote; empty if it is not there."""
        if not (self.folder / ".git").is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.git("init", "--quiet")
        return self.git_remote("ls-remote", self.place["git"], self.ref(name)).partition("\t")[0]

    def check_out(self) -> None:
        """Set all files that git knows to what they are in the commit; make the clone ready where it is new."""
        if not (self.folder / ".dvc").is_dir():
            name, email = self.place["author"]
            self.git("config", "user.name", name)
            self.git("config", "user.email", email)
        self.git_remote("fetch", "--quiet", self.place["git"], self.place["ref"])
        self.git("checkout", "--quiet", "--force", "--detach", self.place["commit"])

    def run(self, trial: dict[str, Any]) -> str:
        """Run the trial as `dvc exp run` does everywhere, and return why it failed; empty if it did not.

        Raises:
            Unfit: it failed for a reason that is the worker's, and not the trial's; or the DVC remote is gone.
        """
        settings = [f"--set-param=++{key}={json.dumps(value)}" for key, value in trial["settings"].items()]
        run = ["exp", "run", "--pull", "--name", trial["name"], *settings, *trial["target"]]
        storage = self.place["storage"]
        remote = [["remote", "add", "--quiet", "--local", "--default", "--force", STORAGE, storage]] if storage else []
        done = self.patiently(lambda: self.dvc(*remote, run), "dvc exp run", remote_is_away)
        reason = reason_of(done.stdout)
        no_data = reason.startswith("fetch: ") and "params.yaml" not in reason
        if done.returncode and self.full(done):
            raise Unfit(f"{NO_SPACE}: {reason}")
        if no_data or done.returncode < 0:
            raise Unfit(reason)
        return reason if done.returncode else ""

    def push(self, trial: dict[str, Any]) -> None:
        """Push the data first and the experiment last: who sees the experiment has all of it.

        Raises:
            Unfit: a remote cannot be reached for two minutes.
        """
        data = ["push", *(["--with-deps", *trial["target"]] if trial["target"] else [])]
        self.patiently(lambda: self.dvc(data), "dvc push")
        # Not `dvc exp push`: killed by the worker's end, it would leave a lock that keeps everybody from this name.
        # Another worker may have been quicker, with the same trial at another second: then git refuses ours.
        experiment = ["git", "push", "--quiet", self.place["git"], self.ref(trial["name"])]
        self.patiently(lambda: self.process(experiment), "git push", lambda _: not self.pushed(trial["name"]))

    def git_remote(self, *arguments: str) -> str:
        """Run a git command that reaches the remote, and return what it prints."""
        done = self.patiently(lambda: self.process(["git", *arguments]), f"git {arguments[0]}")
        return done.stdout

    def git(self, *arguments: str) -> str:
        """Run a git command and return what it prints.

        Raises:
            Unfit: it failed.
        """
        done = self.process(["git", *arguments])
        if done.returncode:
            raise Unfit(f"git {arguments[0]}: {reason_of(done.stdout)}")
        return done.stdout

    def patiently(self, call: Any, what: str, may_pass: Any = lambda _: True) -> "subprocess.CompletedProcess[str]":
        """Call until it succeeds, or fails for a reason that may not pass.

        Raises:
            Unfit: the reason has not passed.
        """
        for pause in (*PAUSES, 0):
            done: subprocess.CompletedProcess[str] = call()
            if done.returncode == 0 or not may_pass(done):
                return done
            if self.full(done):
                break
            time.sleep(pause)
        raise Unfit(f"{what}: {reason_of(done.stdout)}")

    def full(self, failed: "subprocess.CompletedProcess[str]") -> bool:
        """Tell whether a command may have failed because the disk is full."""
        return NO_SPACE in failed.stdout or shutil.disk_usage(self.folder.parent).free < FULL

    def dvc(self, *commands: list[str]) -> "subprocess.CompletedProcess[str]":
        """Run commands of DVC one after the other, up to the first that fails."""
        return self.process([sys.executable, "-c", RUN_DVC, str(os.getpid()), json.dumps(commands)])

    def process(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        """Run a command in the clone, in a process group of its own, with what it prints on both streams in one."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=environment(),
            pass_fds=[self.lock],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            check=False,
        )


def environment() -> dict[str, str]:
    """Return the variables for DVC and its stages: this Python first, and none of those that Dask sets for workers."""
    dasks = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    kept = {name: value for name, value in os.environ.items() if str(dasks.get(name)) != value}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return kept | {"PATH": path, "NO_WAY_BACK": "1", "GIT_TERMINAL_PROMPT": "0"}


def remote_is_away(done: "subprocess.CompletedProcess[str]") -> bool:
    """Tell whether a trial failed because DVC did not reach the remote: no stage has failed then."""
    return "failed to run" not in done.stdout and bool(AWAY.search(reason_of(done.stdout)))


def reason_of(printed: str) -> str:
    """Return the line that says why a command failed: the stage's own words, else those of DVC or git."""
    lines = [line for line in printed.splitlines() if line.strip()] or ["it printed nothing"]
    own = [line for line in lines if STAGE_SAYS.match(line)]
    dvcs = [line for line in lines if line.startswith("ERROR: ")]
    gits = [line for line in lines if line.startswith(("remote: error: ", "error: ", "fatal: "))]
    return (own[-1:] or dvcs[-1:] or gits[:1] or lines[-1:])[0]
