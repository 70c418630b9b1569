"""Searching: what the plan allows, what the journal keeps, what workers do about remotes, disks and libraries."""

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from distributed import Client, LocalCluster
from ruamel.yaml import YAML

from stages.commands import search, search_worker
from stages.commands.search_plan import Plan, read_plan
from stages.commands.search_worker import NO_SPACE, Clone, Unfit, check_versions, free_clone, reason_of
from stages.lib.base.errors import UserError
from tests.helpers import PROJECT, SetParams, refusal

PLAN: dict[str, Any] = {
    "name": "try",
    "objective": "metrics/train/model_1.json:test_acc",
    "trials": 4,
    "params": {"prepare.validation": 100},
    "space": {"model_1.lr": {"low": 0.01, "high": 1.0, "log": True}, "model_1.augment": [[], ["flip"]]},
}
COMMIT = "0123456789" * 4


@pytest.fixture
def plan_with(workspace: Path) -> Callable[..., Plan]:
    """`plan_with(trials=3)` writes a search.yaml and reads it."""

    def make(**changes: Any) -> Plan:
        YAML().dump(PLAN | changes, workspace / "search.yaml")
        return read_plan(Path("search.yaml"))[0]

    return make


@pytest.fixture
def place(workspace: Path) -> dict[str, Any]:
    """A git remote without experiments."""
    subprocess.run(["git", "init", "--quiet", "--bare", "remote.git"], check=True)
    return {"git": str(workspace / "remote.git"), "commit": COMMIT, "versions": {}}


@pytest.fixture
def client(workspace: Path) -> Iterator[Client]:
    """Two workers in this process."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_shipped_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    plan, params = read_plan(Path("search.yaml"))
    assert plan.model in params.models
    assert params.prepare.validation > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"params": {}}, ["prepare.validation is 0", "test images"]),
        ({"objective": "metrics/eval/model_1.json:accuracy"}, ["metrics/eval", "test images"]),
        ({"objective": "metrics/train/model_1.json:train_acc"}, ["train_acc", "validation"]),
        ({"objective": "metrics/train/model_9.json:test_acc"}, ["model_9"]),
        ({"space": {"prepare.validation": [0, 100]}}, ["space.prepare.validation", "images"]),
        ({"space": {"model_2.lr": [0.1, 0.01]}}, ["space.model_2.lr changes nothing of metrics/train/model_1.json"]),
        ({"space": {"evaluate.batch_size": [32, 64]}}, ["space.evaluate.batch_size changes nothing"]),
        ({"space": {"model_1.learning_rate": [0.1]}}, ["unknown key", "learning_rate"]),
        ({"space": {"model_1.lr.high": [0.1]}}, ["model_1.lr"]),
        ({"space": {"model_1.lr": [-1.0]}}, ["model_1.lr is -1.0", "greater than 0"]),
        ({"space": {"model_1.lr": []}}, ["space.model_1.lr"]),
        ({"space": {"model_1.lr": {"low": 1.0, "high": 0.1}}}, ["search.yaml: space.model_1.lr"]),
        ({"space": {"model_1.lr": {"low": 0.1, "high": 1.0}}, "sampler": "grid"}, ["space.model_1.lr: a grid takes a"]),
        ({"space": {}}, ["space"]),
        ({"trials": 0}, ["trials"]),
        ({"name": "my search"}, ["name"]),
        ({"sampling": "tpe"}, ["sampling"]),
    ],
)
def test_plan_refused(plan_with: Callable[..., Plan], changes: dict[str, Any], words: list[str]) -> None:
    line = refusal(lambda: plan_with(**changes))
    assert ".yaml" in line
    assert all(word in line for word in words)


def test_validation_images_of_params_yaml(plan_with: Callable[..., Plan], set_params: SetParams) -> None:
    set_params({"prepare.validation": 50})
    assert plan_with(params={}).direction == "maximize"


@pytest.mark.parametrize(
    ("images", "sizes", "said"),
    [
        (129, [43, 128], "with model_1.batch_size 128 the last 1 of the 129 validation images count as much as 128"),
        (129, {"low": 43, "high": 128}, "with model_1.batch_size 128 the last 1 of"),
        (100, None, "with model_1.batch_size 32 the last 4 of the 100"),
        (6000, [32, 64, "128"], ""),
        (24, [32], ""),
    ],
)
def test_few_images_decide(
    plan_with: Callable[..., Plan], capsys: pytest.CaptureFixture[str], images: int, sizes: Any, said: str
) -> None:
    """The objective is a mean over batches, and the last may be short."""
    space = {"model_1.batch_size": sizes} if sizes else PLAN["space"]
    plan_with(params={"prepare.validation": images}, space=space)
    warning = capsys.readouterr().err
    assert said in warning
    assert bool(warning) is bool(said)


def test_values_for_params_yaml(plan_with: Callable[..., Plan]) -> None:
    plan = plan_with(objective="metrics/train/model_1.json:test_loss")
    drawn = {"model_1.lr": 0.0234567, "model_1.augment": '["flip"]'}
    assert plan.settings(drawn) == {"prepare.validation": 100, "model_1.lr": 0.0235, "model_1.augment": ["flip"]}
    assert plan.direction == "minimize"


def begin(plan: Plan, place: dict[str, Any]) -> optuna.Study:
    Path("searches/try").mkdir(parents=True, exist_ok=True)
    return search.open_study(plan, place, Path("searches/try"))


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_search_goes_on(plan_with: Callable[..., Plan], place: dict[str, Any], sampler: str) -> None:
    plan = plan_with(sampler=sampler)
    first = search.missing_trials(plan, study := begin(plan, place))
    before = [next(first), next(first)]
    study.tell(1, 50.0)
    after = list(search.missing_trials(plan, begin(plan, place)))
    assert after[0] == before[0]  # trial 0 was under way
    assert [trial["name"] for trial in after] == ["try-000", "try-002", "try-003"]
    rates = {trial["settings"]["model_1.lr"] for trial in [*before, *after]}
    assert len(rates) == plan.trials  # the sampler does not begin anew


def test_trial_without_values_is_another_one(plan_with: Callable[..., Plan], place: dict[str, Any]) -> None:
    study = begin(plan := plan_with(trials=2), place)
    study.ask().suggest_categorical("model_1.augment", ["[]", '["flip"]'])  # and killed
    assert [trial["name"] for trial in search.missing_trials(plan, study)] == ["try-001", "try-002"]


def test_grid_has_each_value_once(plan_with: Callable[..., Plan], place: dict[str, Any]) -> None:
    space = {"model_1.hidden_units": {"low": 5, "high": 7}, "model_1.nesterov": [True, False]}
    plan = plan_with(sampler="grid", trials=100, space=space, params={"prepare.validation": 9, "model_1.momentum": 0.9})
    trials = list(search.missing_trials(plan, study := begin(plan, place)))
    assert len({json.dumps(trial["settings"]) for trial in trials}) == len(trials) == 6
    for trial in trials:  # at the last one Optuna's sampler wants to stop a loop that is not its own
        search.keep(plan, study, trial, {"state": "done", "metrics": {"test_acc": 80.0}})
    assert len(search.finished(study)) == 6


def test_time_is_over(
    plan_with: Callable[..., Plan], place: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_with(minutes=1e-9)
    assert list(search.missing_trials(plan, begin(plan, place))) == []
    assert "minutes are over" in capsys.readouterr().err


def test_line_cut_short(plan_with: Callable[..., Plan], place: dict[str, Any]) -> None:
    plan = plan_with()
    study = begin(plan, place)
    next(search.missing_trials(plan, study))
    journal = Path("searches/try/journal.log")
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "wor')
    Path("searches/try/journal.log.lock").symlink_to("nowhere")
    assert len(begin(plan, place).trials) == 1
    begin(plan, place).tell(0, 50.0)
    assert begin(plan, place).best_value == 50


def test_another_search_of_this_name(plan_with: Callable[..., Plan], place: dict[str, Any]) -> None:
    begin(plan_with(), place)
    begin(plan_with(trials=50, minutes=3), place)
    assert "space" in refusal(begin, plan_with(space={"model_1.lr": [0.1]}), place)
    assert "commit" in refusal(begin, plan_with(), place | {"commit": "f" * 40})


def test_experiments_of_this_name(plan_with: Callable[..., Plan], place: dict[str, Any]) -> None:
    push_experiment(place, "try-000", {})
    assert "try-000" in refusal(begin, plan_with(), place)


def test_one_driver_at_a_time(workspace: Path) -> None:
    def again() -> None:
        with search.alone_in(workspace / "searches/try"):
            pass

    with search.alone_in(workspace / "searches/try"):
        assert "another process" in refusal(again)


# Workers


def push_experiment(place: dict[str, Any], name: str, metrics: dict[str, Any]) -> None:
    """Push an experiment as DVC does, without DVC."""

    def git(*arguments: str, given: str | None = None) -> str:
        identity = ["-c", "user.name=T", "-c", "user.email=t@example.com"]
        command = ["git", "--git-dir", place["git"], *identity, *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout.strip()

    tree = git(
        "mktree", given=f"100644 blob {git('hash-object', '-w', '--stdin', given=json.dumps(metrics))}\tmetrics\n"
    )
    git("update-ref", f"refs/exps/{COMMIT[:2]}/{COMMIT[2:]}/{name}", git("commit-tree", tree, "-m", name))


TRIAL = {"name": "try-000", "settings": {}, "target": ["train_model_1"], "reads": "metrics"}


def test_trial_that_is_pushed_does_not_run(place: dict[str, Any], tmp_path: Path) -> None:
    push_experiment(place, "try-000", {"test_acc": 50.0})
    with free_clone(tmp_path, place) as clone:
        assert clone.answer(TRIAL) == {"state": "done", "metrics": {"test_acc": 50.0}}


def test_two_never_in_one_clone(place: dict[str, Any], tmp_path: Path) -> None:
    with free_clone(tmp_path, place) as first, free_clone(tmp_path, place) as second:
        assert first.folder != second.folder
    with free_clone(tmp_path, place) as again:
        assert again.folder == first.folder


def test_clone_of_a_killed_worker_is_made_anew(place: dict[str, Any], tmp_path: Path) -> None:
    def killed() -> None:
        with free_clone(tmp_path, place) as clone:
            clone.folder.mkdir()
            (clone.folder / "half").touch()
            raise Unfit("as good as killed")

    with pytest.raises(Unfit):
        killed()
    with free_clone(tmp_path, place) as clone:
        assert not clone.folder.exists()


def test_remote_gone_for_a_while(place: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote, away = Path(place["git"]), tmp_path / "away.git"
    push_experiment(place, "try-000", {"test_acc": 50.0})
    remote.rename(away)
    monkeypatch.setattr("time.sleep", lambda seconds: away.rename(remote) if seconds == 4 else None)
    with free_clone(tmp_path, place) as clone:
        assert clone.answer(TRIAL)["state"] == "done"


def test_remote_gone_for_good(place: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(Unfit, match="ls-remote"), free_clone(tmp_path, place | {"git": str(tmp_path / "no")}) as clone:
        clone.answer(TRIAL)


@pytest.fixture
def clone_that_prints(
    place: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[Clone, list[Any]]]:
    """`clone_that_prints(text)` gives a clone whose DVC prints this and fails, and the list of its commands."""

    def make(printed: str) -> tuple[Clone, list[Any]]:
        commands: list[Any] = []

        def dvc(_: Clone, *given: list[str]) -> "subprocess.CompletedProcess[str]":
            commands.extend(given)
            return subprocess.CompletedProcess([], 1, printed)

        monkeypatch.setattr(Clone, "dvc", dvc)
        return Clone(tmp_path / "clone", place | {"storage": "/storage"}, 0), commands

    return make


DIVERGED = """
Running stage 'train_model_1':
train: the loss is nan in epoch 1
ERROR: failed to reproduce 'train_model_1': failed to run: python -m stages.train model_1, exited with 1
"""


def test_reason_of_a_failed_trial(clone_that_prints: Callable[[str], tuple[Clone, list[Any]]]) -> None:
    clone, _ = clone_that_prints(DIVERGED)
    assert clone.run(TRIAL) == "train: the loss is nan in epoch 1"


def test_trial_as_dvc_command(clone_that_prints: Callable[[str], tuple[Clone, list[Any]]]) -> None:
    clone, commands = clone_that_prints(DIVERGED)
    clone.run(TRIAL | {"settings": {"model_1.lr": 0.1, "model_1.optimizer": "sgd", "model_1.augment": ["flip"]}})
    *options, target = commands[1]
    assert options[:5] == ["exp", "run", "--pull", "--name", "try-000"]
    assert options[5:] == [
        "--set-param=++model_1.lr=0.1",
        '--set-param=++model_1.optimizer="sgd"',
        '--set-param=++model_1.augment=["flip"]',
    ]
    assert target == "train_model_1"


NO_STORAGE = """
Reproducing experiment 'try-000'
ERROR: Failed to reproduce experiment '6a13035': Could not connect to the endpoint URL: "http://127.0.0.1:9/bucket/runs"
"""


@pytest.mark.parametrize(("returns", "tries"), [(5, 5), (99, 8)], ids=["for a while", "for good"])
def test_storage_gone(
    clone_that_prints: Callable[[str], tuple[Clone, list[Any]]],
    monkeypatch: pytest.MonkeyPatch,
    returns: int,
    tries: int,
) -> None:
    clone, commands = clone_that_prints(NO_STORAGE)
    fails = clone.dvc

    def dvc(*given: list[str]) -> "subprocess.CompletedProcess[str]":
        done = fails(*given)
        return subprocess.CompletedProcess([], 0, "") if len(commands) == 2 * returns else done

    waited: list[float] = []
    monkeypatch.setattr(clone, "dvc", dvc)
    monkeypatch.setattr("time.sleep", waited.append)
    if returns > tries:
        with pytest.raises(Unfit, match="Could not connect"):
            clone.run(TRIAL)
        assert sum(waited) > 120
    else:
        assert clone.run(TRIAL) == ""
    assert len(commands) == 2 * tries  # `dvc remote add` and `dvc exp run`


def test_disk_is_full_in_other_words(
    clone_that_prints: Callable[[str], tuple[Clone, list[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clone, _ = clone_that_prints("ERROR: unexpected error - de3389c5a54178a1: no error")  # seen on a full tmpfs
    assert "no error" in clone.run(TRIAL)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(Unfit, match=NO_SPACE):
        clone.run(TRIAL)


def test_stage_that_names_a_connection_has_failed(
    clone_that_prints: Callable[[str], tuple[Clone, list[Any]]],
) -> None:
    printed = "train: the connection timed out\nERROR: failed to reproduce 'train_model_1': failed to run: python"
    assert clone_that_prints(printed)[0].run(TRIAL) == "train: the connection timed out"


def test_remote_gone_at_the_end(place: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def dvc(*arguments: str) -> str:
        calls.append(arguments)
        if len(calls) < 4:
            raise UserError("dvc exp pull failed")
        return ""

    monkeypatch.setattr(search, "checked_git", lambda *_: "")
    monkeypatch.setattr(search, "dvc", dvc)
    monkeypatch.setattr("time.sleep", lambda _: None)
    search.bring_home(["try-000"], place)
    assert len(calls) == 4


def test_experiment_of_another_commit_is_not_ours(place: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "--quiet"], check=True)
    tree = subprocess.run(["git", "mktree"], input="", capture_output=True, text=True, check=True).stdout.strip()
    pulled: list[Any] = []
    monkeypatch.setattr(search, "dvc", lambda *arguments: pulled.append(arguments))
    for commit, pulls in (("f" * 40, 1), (COMMIT, 1)):
        subprocess.run(["git", "update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/try-000", tree], check=True)
        search.bring_home(["try-000"], place)
        assert len(pulled) == pulls


@pytest.mark.parametrize(
    "printed",
    [f"train: models: {os.strerror(errno.ENOSPC)}", "fetch: no mirror can be reached"],
    ids=["full disk", "no data"],
)
def test_fault_of_the_worker(clone_that_prints: Callable[[str], tuple[Clone, list[Any]]], printed: str) -> None:
    with pytest.raises(Unfit, match=printed[:6]):
        clone_that_prints(printed)[0].run(TRIAL)


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        (DIVERGED, "train: the loss is nan in epoch 1"),
        ("ZeroDivisionError: mine\nERROR: failed to reproduce", "ZeroDivisionError: mine"),
        ("model_1: MLP\ntrain: warning: slow\nERROR: no space", "ERROR: no space"),
        ("fatal: no repository\nCheck the rights", "fatal: no repository"),
        ("remote: error: cannot lock ref\nTo /bare\nerror: failed to push some refs", "remote: error: cannot lock ref"),
        ("", "it printed nothing"),
    ],
)
def test_reason(printed: str, reason: str) -> None:
    assert reason_of(printed) == reason


def test_other_libraries_are_refused() -> None:
    check_versions({"numpy": version("numpy")})
    with pytest.raises(Unfit, match=r"numpy .* 0\.1"):
        check_versions({"numpy": "0.1"})


# The driver


def stub(place: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
    from distributed import get_worker

    address = get_worker().address
    if place.get("unfit") in ("all", address):
        return {"state": "unfit", "reason": "its disk is full", "worker": address}
    if trial["number"] == 1:
        return {"state": "failed", "reason": "train: diverged"}
    return {"state": "done", "metrics": {"test_acc": 90.0 + trial["number"]}}


def test_search_to_its_end(
    plan_with: Callable[..., Plan],
    place: dict[str, Any],
    client: Client,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search_worker, "run_trial", stub)
    study = begin(plan := plan_with(), place)
    search.search(plan, study, client, place | {"unfit": next(iter(client.nthreads()))})
    search.report(plan, study, Path("searches/try"))
    printed, errors = capsys.readouterr()
    assert len(client.nthreads()) == 1
    assert "its disk is full" in errors
    assert "train: diverged" in printed
    names = [line.split(",")[:2] for line in Path("searches/try/trials.csv").read_text().splitlines()]
    assert names[1:] == [["try-003", "93.0"], ["try-002", "92.0"], ["try-000", "90.0"], ["try-001", ""]]
    assert {path.name for path in Path("searches/try").glob("*.png")} == {
        "history.png",
        "importances.png",
        "slices.png",
    }


def test_winner_on_test_images(
    plan_with: Callable[..., Plan],
    place: dict[str, Any],
    client: Client,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def evaluated(_: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
        return {"state": "done", "metrics": {"accuracy": 80.0 + len(trial["settings"])}}  # 2 in the space, 1 fixed

    monkeypatch.setattr(search_worker, "run_trial", evaluated)
    study = begin(plan := plan_with(trials=1), place)
    trial = next(search.missing_trials(plan, study))
    search.keep(plan, study, trial, {"state": "done", "metrics": {"test_acc": 90.0}})
    monkeypatch.setattr(search, "bring_home", lambda names, _: None)
    search.evaluate_winner(plan, study, client, place)
    printed = capsys.readouterr().out
    assert printed.index("dvc exp apply try-000-best") < printed.index("try-000-best: 83.00 %")
    assert "try-start: 81.00 %" in printed


def test_another_winner_when_the_search_goes_on(
    plan_with: Callable[..., Plan], place: dict[str, Any], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's experiment is on the git remote by then, and an experiment that is there does not run again."""
    tested: dict[str, Any] = {}

    def run_trials(_: Any, __: Any, trials: Iterator[dict[str, Any]], ___: Any) -> Iterator[Any]:
        for trial in trials:
            tested.setdefault(trial["name"], trial["settings"])
            yield trial, {"state": "done", "metrics": {"accuracy": 80.0}}

    monkeypatch.setattr(search, "run_trials", run_trials)
    monkeypatch.setattr(search, "bring_home", lambda names, _: None)
    study = begin(plan := plan_with(trials=2), place)
    for trial in search.missing_trials(plan, study):  # the second is better than the first
        search.keep(plan, study, trial, {"state": "done", "metrics": {"test_acc": 80.0 + trial["number"]}})
        search.evaluate_winner(plan, study, client, place)
        assert trial["settings"] in tested.values()


def test_answers_of_a_worker(place: dict[str, Any], client: Client) -> None:
    push_experiment(place, "try-000", {"test_acc": 50.0})
    run = search_worker.run_trial
    assert client.submit(run, place, TRIAL).result() == {"state": "done", "metrics": {"test_acc": 50.0}}
    unfit = client.submit(run, place | {"versions": {"torch": "0.1"}}, TRIAL).result()
    assert unfit["worker"] in client.nthreads()
    assert "torch" in unfit["reason"]


def test_no_worker_is_left(place: dict[str, Any], client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PATIENCE", 3)
    trials = search.run_trials(client, place | {"unfit": "all"}, iter([{"number": 0}]), {}, run=stub)
    assert "its disk is full" in refusal(list, trials)


def test_no_worker_has_the_resource(place: dict[str, Any], client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PATIENCE", 1)
    trials = search.run_trials(client, place, iter([{"number": 0}]), {"GPU": 1}, run=stub)
    assert "GPU" in refusal(list, trials)


def test_scheduler_started_again(place: dict[str, Any], client: Client) -> None:
    trials = search.run_trials(client, place, iter([{"number": number} for number in (0, 2, 3, 4)]), {}, run=stub)
    done = [next(trials)[0]["number"]]
    for under_way in client.futures.values():  # what the client does with them when it loses the scheduler
        under_way.cancel(reason="scheduler-connection-lost", msg="")
    done += [trial["number"] for trial, _ in trials]
    assert sorted(done) == [0, 2, 3, 4]


def test_scheduler_gone_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PATIENCE", 1)
    client: Any = SimpleNamespace(status="connecting")
    assert "scheduler is gone" in refusal(search.wait_for_scheduler, client)


def test_no_trial_succeeded(plan_with: Callable[..., Plan], place: dict[str, Any]) -> None:
    study = begin(plan := plan_with(trials=1), place)
    trial = next(search.missing_trials(plan, study))
    search.keep(plan, study, trial, {"state": "failed", "reason": "train: diverged"})
    assert "diverged" in refusal(search.report, plan, study, Path("searches/try"))


def test_no_scheduler(plan_with: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PATIENCE", 1)

    def connect() -> None:
        with search.workers_of(plan, "tcp://127.0.0.1:1", 1):
            pass

    plan = plan_with()
    assert "tcp://127.0.0.1:1" in refusal(connect)


def commit_all() -> None:
    """Make the current folder a repository with one commit."""
    for command in ("init --quiet", "add --all", "-c user.name=T -c user.email=t@example.com commit --quiet -m all"):
        subprocess.run(["git", *command.split()], check=True)


def test_edits_must_be_committed(plan_with: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_with()
    commit_all()
    monkeypatch.setattr("sys.argv", ["search"])
    with Path("params.yaml").open("a") as file:
        file.write("# an edit\n")
    assert "params.yaml" in refusal(search.shared_place, plan, search.parse_arguments())


def test_frozen_stage_is_refused(plan_with: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC would not run it: with `prepare` frozen the test images judge, for `prepare.validation` has no effect."""
    plan = plan_with()
    Path("dvc.yaml").write_text("stages: {prepare: {cmd: 'true', frozen: true}, evaluate: {cmd: 'true'}}\n")
    commit_all()
    monkeypatch.setattr("sys.argv", ["search"])
    assert "dvc unfreeze prepare" in refusal(search.shared_place, plan, search.parse_arguments())


def test_cluster_needs_a_storage(plan_with: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_with()
    commit_all()
    monkeypatch.setattr("sys.argv", ["search", "--scheduler", "tcp://127.0.0.1:1"])
    monkeypatch.setattr(search, "dvc", lambda *_: "")
    assert "dvc remote add" in refusal(search.shared_place, plan, search.parse_arguments())
