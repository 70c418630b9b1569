"""Search for better hyperparameters: `make search`, or `python -m stages.commands.search search.yaml`.

Optuna proposes values, each trial is a `dvc exp run` on a worker of Dask, and what comes of it is an experiment like
any other. The trials stand in a journal: a search that was interrupted anywhere goes on when it is started again.

Without `--scheduler` the workers are processes here, and share this repository and DVC's cache. With it they are
wherever Dask's are, and share a git remote and the DVC remote of the commit. Both run the same code.
"""

import json
import math
import os
import re
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from stages.commands.search_plan import IMAGES, Plan, read_plan
from stages.commands.search_results import RESULTS, SEARCHES, training_params
from stages.commands.state import State, checked_git, frozen, git
from stages.commands.yaml_files import PIPELINE
from stages.lib.base.errors import UserError, exit_cleanly, printable
from stages.lib.base.files import write_csv, write_json
from stages.lib.base.params import load_params
from stages.lib.base.process import cpus
from stages.lib.base.versions import installed_version, read_versions

if TYPE_CHECKING:
    from distributed import Client
    from optuna import Study
    from optuna.trial import FrozenTrial

SCRATCH = Path(".dvc/tmp/search")  # clones of the workers here
PATIENCE = 60  # seconds without any worker until the search gives up
SHOWN = 10  # trials in the table that is printed
REASON = "why trial {} failed"  # by which name the journal keeps it
AUTHOR = {"name": "search", "email": "search@localhost"}  # of experiments, where git does not know who you are
Trial = dict[str, Any]
Answer = dict[str, Any]


def main() -> None:
    """Read the plan, run its trials, show what came of them."""
    arguments = parse_arguments()
    try:
        import distributed  # noqa: F401
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
    except ImportError as error:
        raise UserError(f"{error.name} is not installed: `make setup`, or pip install '.[cluster]'") from None
    plan, params = read_plan(arguments.plan)
    workers = arguments.workers or max(cpus() // (params.threads(plan.model) * params.train.processes), 1)
    folder = SEARCHES / plan.name
    with alone_in(folder):
        place = shared_place(plan, arguments)
        study = open_study(plan, place, folder)
        start = training_params(load_params(), plan.model)
        with workers_of(plan, arguments.scheduler, workers) as client:
            search(plan, study, client, place)
            bring_home([trial_name(plan, trial.number) for trial in finished(study)], place)
            report(plan, study, folder)
            results = results_of(plan, study) | {"commit": place["commit"], "params": start}
            write_json(folder / RESULTS, results)
            if not arguments.no_test:
                test = evaluate_winner(plan, study, client, place)
                write_json(folder / RESULTS, results | {"test": test})


def parse_arguments() -> Namespace:
    """Return what the command line says."""
    parser = ArgumentParser(prog="python -m stages.commands.search", description="Search for better hyperparameters.")
    parser.add_argument("plan", nargs="?", type=Path, default=Path("search.yaml"), help="a file such as search.yaml")
    parser.add_argument("--workers", type=int, help="trainings at a time here; as many as fit the CPUs unless given")
    parser.add_argument("--scheduler", help="of a Dask cluster, such as tcp://10.0.0.1:8786")
    parser.add_argument("--git-remote", default="origin", help="with --scheduler: what driver and workers share")
    parser.add_argument("--no-test", action="store_true", help="do not look at the test images at the end")
    return parser.parse_args()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the search in `folder` for this process.

    Raises:
        UserError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout:
        raise UserError(f"another process runs the search in {folder}; wait until it ends") from None


# Where the trials come from, and where they go


def shared_place(plan: Plan, arguments: Namespace) -> dict[str, Any]:
    """Return what workers must know to make experiments of this commit, and give the commit to the git remote.

    Raises:
        UserError: there are edits that are not committed, a stage that does not run, or nothing to share data by.
    """
    edited = [line[3:] for line in checked_git("status", "--porcelain", "--untracked-files=no").splitlines()]
    edited = [path for path in edited if Path(path) != arguments.plan]
    if edited:
        raise UserError(f"{edited[0]} has edits that are not committed, and trials start from the commit: commit first")
    commit, ref = checked_git("rev-parse", "HEAD"), f"refs/search/{plan.name}"
    for stage in frozen(State(commit, "the commit").tree(str(PIPELINE))):
        # Trials would keep its old outputs, validation images say, whatever their parameters.
        raise UserError(f"{stage} is frozen, so trials would not run it: `dvc unfreeze {stage}`, and commit")
    remote, storage = str(Path.cwd()), dvc("cache", "dir").strip()
    if arguments.scheduler:
        storage = ""
        if not re.search(r"^\s*remote\s*=", git("show", "HEAD:.dvc/config") or "", re.MULTILINE):
            what = "workers elsewhere need a DVC remote that is in the commit"
            raise UserError(f"{what}: `dvc remote add --default storage ...`, and commit .dvc/config")
        remote = git("remote", "get-url", arguments.git_remote) or arguments.git_remote
    checked_git("push", "--quiet", "--force", remote, f"{commit}:{ref}")
    author = [git("config", f"user.{key}") or default for key, default in AUTHOR.items()]
    versions = {library: installed_version(library) for library in read_versions()}
    return {"git": remote, "storage": storage, "commit": commit, "ref": ref, "versions": versions, "author": author}


def open_study(plan: Plan, place: dict[str, Any], folder: Path) -> "Study":
    """Open the journal of the search, or begin it.

    Raises:
        UserError: the journal, or an experiment of these names, is of another search.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    journal = folder / "journal.log"
    mend_journal(journal)
    distributions = plan.distributions()
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=plan.name,
        direction=plan.direction,
        load_if_exists=True,
    )
    study.sampler = plan.sampler_from(len(study.get_trials(deepcopy=False)))
    what = {"commit": place["commit"], "objective": plan.objective, "params": plan.params}
    what["space"] = {key: str(distribution) for key, distribution in distributions.items()}
    begun = study.user_attrs.get("what")
    if begun is None:
        taken = checked_git("ls-remote", place["git"], f"refs/exps/*/{plan.name}-*")
        if taken:
            name = taken.rpartition("/")[2]
            raise UserError(f"there is an experiment {name} already; give the search another name than {plan.name}")
        study.set_user_attr("what", what)
    elif begun != what:
        (key, *_) = [key for key in what if begun[key] != what[key]]
        raise UserError(f"the search in {folder} was begun with another {key}; take another name for this")
    return study


def mend_journal(journal: Path) -> None:
    """Take off the line that a killed process or a full disk cut short, and the lock of one that is gone."""
    for lock in journal.parent.glob("journal.log.lock*"):
        lock.unlink()
    if journal.exists() and not (content := journal.read_bytes()).endswith(b"\n"):
        os.truncate(journal, content.rfind(b"\n") + 1)


@contextmanager
def workers_of(plan: Plan, scheduler: str | None, workers: int) -> Iterator["Client"]:
    """Yield a client of the cluster at `scheduler`, or of some workers here.

    Raises:
        UserError: there is no scheduler, or it goes away.
    """
    import logging

    from distributed import Client, LocalCluster

    if scheduler:
        logging.getLogger("distributed").handlers.clear()  # tracebacks while it tries a scheduler that is gone
        try:
            with Client(scheduler, timeout=PATIENCE) as client:
                yield client
        except OSError as error:
            raise UserError(f"{scheduler}: {error}; is a Dask scheduler there?") from None
        return
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=None,
            resources=plan.resources,
            dashboard_address="127.0.0.1:0",
            local_directory=str(SCRATCH.absolute()),
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


# Running the trials


def search(plan: Plan, study: "Study", client: "Client", place: dict[str, Any]) -> None:
    """Run the trials that are missing; keep value or reason of each."""
    for trial, answer in run_trials(client, place, missing_trials(plan, study), plan.resources):
        keep(plan, study, trial, answer)
        of = f"{len(finished(study)) + len(failed(study))} of {plan.trials}"
        print(f"{trial['name']}  {outcome(plan, answer)}  {settings_text(trial['settings'], plan)}  ({of})", flush=True)


def keep(plan: Plan, study: "Study", trial: Trial, answer: Answer) -> None:
    """Write the value of a trial, or the reason why it has none, into the journal."""
    from optuna.trial import TrialState

    if answer["state"] == "done":
        study.tell(trial["number"], answer["metrics"][plan.key])
    else:
        study.set_user_attr(REASON.format(trial["number"]), answer["reason"])
        study.tell(trial["number"], state=TrialState.FAIL)


def missing_trials(plan: Plan, study: "Study") -> Iterator[Trial]:
    """Yield the trials that an interrupted search has left, and then new ones while there is time."""
    from optuna.trial import TrialState

    def described(number: int, drawn: dict[str, Any]) -> Trial:
        trial = {"number": number, "name": trial_name(plan, number), "settings": plan.settings(drawn)}
        return trial | {"target": [f"train_{plan.model}"], "reads": plan.metrics_file}

    start, whole = time.monotonic(), len(plan.space)
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        if len(trial.params) == whole:
            yield described(trial.number, trial.params)
        else:  # interrupted while its values were drawn
            study.tell(trial.number, state=TrialState.FAIL)
    wanted = min(plan.trials, math.prod(map(len, plan.grid().values())) if plan.sampler == "grid" else plan.trials)
    while sum(len(trial.params) == whole for trial in study.get_trials(deepcopy=False)) < wanted:
        if plan.minutes and time.monotonic() - start > 60 * plan.minutes:
            print(f"search: {plan.minutes} minutes are over; start it again to go on", file=sys.stderr)
            return
        asked = study.ask(plan.distributions())
        yield described(asked.number, asked.params)


def run_trials(
    client: "Client",
    place: dict[str, Any],
    trials: Iterator[Trial],
    resources: dict[str, float],
    run: Callable[..., Answer] | None = None,
) -> Iterator[tuple[Trial, Answer]]:
    """Keep all workers busy, and yield each trial with what came of it.

    A worker that is unfit is taken out of the cluster, and another one gets its trial. A scheduler that is started
    again knows of no trial: it gets those that were under way once more.

    Args:
        client: of the cluster.
        place: what `run_trial` must know.
        trials: asked for one when a worker is free.
        resources: that a worker must have for a trial.
        run: what to call in place of `run_trial`; for the benchmark.

    Raises:
        UserError: no worker is left, or the scheduler is gone.
    """
    from stages.commands import search_worker

    code = ByValue(run or search_worker.run_trial)
    running: dict[Any, Trial] = {}
    again: list[Trial] = []
    why = "none came"
    while True:
        while len(running) < max(free_places(client, resources), 1):
            trial = again.pop() if again else next(trials, None)
            if trial is None:
                break
            running[client.submit(code, place, trial, resources=resources, pure=False)] = trial
        if not running:
            return
        try:
            answers = next_answers(running)
        except CancelledError:
            print("search: the scheduler is gone; waiting for it", file=sys.stderr)
            answers = []
            again += running.values()
            running.clear()
            wait_for_scheduler(client)
        for trial, answer in answers:
            if answer["state"] == "unfit":
                why = answer["reason"]
                print(f"search: {answer['worker']} is taken out: {printable(why)}", file=sys.stderr)
                take_out(client, answer["worker"])
                again.append(trial)
            else:
                yield trial, answer
        if not free_places(client, resources):
            wait_for_worker(client, resources, why)


def next_answers(running: dict[Any, Trial]) -> list[tuple[Trial, Answer]]:
    """Wait for a trial to end, and take those that have ended out of `running`; none may have after a while.

    Raises:
        CancelledError: the scheduler is gone.
    """
    from distributed import wait

    try:
        done = wait(list(running), timeout=PATIENCE, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        return []
    answers = [(future, answer_of(future)) for future in done]
    return [(running.pop(future), answer) for future, answer in answers]


class ByValue:
    """A function that goes to workers as its code, not as its name: they may lack the file that has it."""

    def __init__(self, function: Callable[..., Answer]) -> None:
        self.function = function

    def __call__(self, place: dict[str, Any], trial: Trial) -> Answer:
        """Call the function."""
        return self.function(place, trial)

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to make it on the other side: without this class, which is not there."""
        import cloudpickle

        module = sys.modules[self.function.__module__]
        cloudpickle.register_pickle_by_value(module)
        try:
            return cloudpickle.loads, (cloudpickle.dumps(self.function),)
        finally:
            cloudpickle.unregister_pickle_by_value(module)


def free_places(client: "Client", resources: dict[str, float]) -> int:
    """Return how many trials the cluster runs at the same time."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sum(
        min([worker["nthreads"], *(worker["resources"].get(name, 0) // amount for name, amount in resources.items())])
        for worker in workers
    )


def take_out(client: "Client", worker: str) -> None:
    """Take a worker out of the cluster. Dask refuses while it has results that somebody holds."""
    for _ in range(PATIENCE):
        client.retire_workers([worker])
        if worker not in client.nthreads():
            return
        time.sleep(0.1)


def wait_for_scheduler(client: "Client") -> None:
    """Wait until the client, which tries it all the time, is connected again.

    Raises:
        UserError: it is not.
    """
    for _ in range(PATIENCE):
        if client.status == "running":
            return
        time.sleep(1)
    raise UserError("the scheduler is gone; what is done is kept: start it again to go on")


def wait_for_worker(client: "Client", resources: dict[str, float], why: str) -> None:
    """Wait until there is a worker: one that was killed is started again.

    Raises:
        UserError: none comes.
    """
    for _ in range(PATIENCE):
        if free_places(client, resources):
            return
        time.sleep(1)
    raise UserError(f"no worker {resources or ''} is left ({why}); what is done is kept: start it again to go on")


def answer_of(future: Any) -> Answer:
    """Return what came of a trial. One that kills its workers has failed."""
    from distributed import KilledWorker

    try:
        return future.result()  # type: ignore[no-any-return]
    except KilledWorker:
        return {"state": "failed", "reason": "it has killed each of the workers that tried it; is it too large?"}


def bring_home(names: list[str], place: dict[str, Any]) -> None:
    """Pull the experiments that are not here yet; with the patience of the workers, if a remote is gone.

    Raises:
        UserError: it does not come back.
    """
    from stages.commands.search_worker import PAUSES

    commit = place["commit"]
    ours = f"refs/exps/{commit[:2]}/{commit[2:]}/"  # another commit may have an experiment of the same name
    here = checked_git("for-each-ref", "--format=%(refname)", ours).splitlines()
    missing = [name for name in names if ours + name not in here]
    for pause in (*PAUSES, 0) if missing else ():
        try:
            dvc("exp", "pull", "--quiet", place["git"], *missing)
            return
        except UserError:
            if not pause:
                raise
            time.sleep(pause)


# What came of it


def finished(study: "Study") -> list["FrozenTrial"]:
    """Return the trials that have a value, the best first."""
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    return sorted(study.get_trials(states=[TrialState.COMPLETE]), key=lambda trial: sign * (trial.value or 0))


def failed(study: "Study") -> list[tuple["FrozenTrial", str]]:
    """Return the trials that have a reason instead, with it."""
    from optuna.trial import TrialState

    reasons, trials = study.user_attrs, study.get_trials(states=[TrialState.FAIL])
    return [(trial, reasons[key]) for trial in trials if (key := REASON.format(trial.number)) in reasons]


def trial_name(plan: Plan, number: int) -> str:
    """Return the name of a trial's experiment."""
    return f"{plan.name}-{number:03}"


def report(plan: Plan, study: "Study", folder: Path) -> None:
    """Print the best trials and why others failed; write the table of all, and Optuna's plots.

    Raises:
        UserError: not one trial succeeded.
    """
    from stages.commands.search_plots import draw

    best, bad = finished(study), failed(study)
    if not best:
        raise UserError(f"no trial succeeded; {trial_name(plan, bad[-1][0].number)}: {bad[-1][1]}")
    rows = [[trial_name(plan, trial.number), trial.value, *plan.settings(trial.params).values(), ""] for trial in best]
    rows += [[trial_name(plan, trial.number), "", *plan.settings(trial.params).values(), why] for trial, why in bad]
    write_csv(folder / "trials.csv", ["name", plan.key, *plan.settings(best[0].params), "reason"], rows)
    print(f"\nThe best of {len(best)} trials by {plan.key} of the validation images:")
    for trial in best[:SHOWN]:
        settings = settings_text(plan.settings(trial.params), plan)
        print(f"{trial_name(plan, trial.number)}  {trial.value:8.4f}  {settings}")
    for trial, why in bad:
        print(f"{trial_name(plan, trial.number)}    failed  {printable(why)}")
    draw(study, f"{plan.key}, validation images", folder)
    print(f"\n{folder}/: trials.csv and pictures of them")


def results_of(plan: Plan, study: "Study") -> dict[str, Any]:
    """Return what the report shows of a search."""
    best = finished(study)
    rows = [
        {"name": trial_name(plan, trial.number), "value": trial.value, "settings": plan.settings(trial.params)}
        for trial in best[:SHOWN]
    ]
    return {
        "name": plan.name,
        "model": plan.model,
        "metric": plan.key,
        "space": list(plan.space),
        "trials": len(best),
        "failed": len(failed(study)),
        "rows": rows,
    }


def evaluate_winner(plan: Plan, study: "Study", client: "Client", place: dict[str, Any]) -> dict[str, float]:
    """Run the whole pipeline with the best trial's values, and evaluate params.yaml as it is beside it.

    Both train on the same images. Only now are the test images looked at.

    Returns:
        The accuracy on the test images in percent, by the name of the experiment.
    """
    best = finished(study)[0]
    images = {key: value for key, value in plan.params.items() if key.partition(".")[0] in IMAGES}
    reads = f"metrics/eval/{plan.model}.json"
    # Named after the trial: the search may go on and find a better one, and no experiment of one name is run twice.
    name = f"{trial_name(plan, best.number)}-best"
    winner = {"name": name, "settings": plan.settings(best.params), "target": [], "reads": reads}
    start = {"name": f"{plan.name}-start", "settings": images, "target": ["evaluate"], "reads": reads}
    print(f"\nThe whole pipeline with the values of the best trial, as the experiment {name}.", flush=True)
    answers = {
        trial["name"]: answer for trial, answer in run_trials(client, place, iter([winner, start]), plan.resources)
    }
    bring_home(list(answers), place)
    print(f"To have it here: dvc exp apply {name}")
    for name, answer in answers.items():
        said = f"{answer['metrics']['accuracy']:.2f} %" if answer["state"] == "done" else answer["reason"]
        print(f"{plan.model} on the test images, {name}: {said}")
    return {name: answer["metrics"]["accuracy"] for name, answer in answers.items() if answer["state"] == "done"}


def outcome(plan: Plan, answer: Answer) -> str:
    """Return the value of a trial, or why it failed."""
    return (
        f"{answer['metrics'][plan.key]:8.4f}" if answer["state"] == "done" else f"failed: {printable(answer['reason'])}"
    )


def settings_text(settings: dict[str, Any], plan: Plan) -> str:
    """Return what differs between trials."""
    return " ".join(f"{key}={json.dumps(settings[key])}" for key in plan.space)


def dvc(*arguments: str) -> str:
    """Run DVC and return what it prints.

    Raises:
        UserError: it failed.
    """
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"dvc {' '.join(arguments[:2])} failed; what is done is kept: start the search again to go on")
    return done.stdout


if __name__ == "__main__":
    exit_cleanly("search", main)
