"""The training against the lecture's loop to the last bit, and the train stage from its settings to its outputs."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from stages.lib.learning.models import build_model
from stages.lib.learning.models import load_checkpoint
from stages.lib.data.datasets import Split, load_split, save_split
from stages.lib.learning.devices import place
from stages.lib.base.errors import UserError
from stages.lib.source.fashion_mnist import CLASS_NAMES
from stages.lib.base.params import ModelParams
from stages.lib.base.tensors import load_tensors
from stages.lib.learning.training import fit, is_chance
from stages.train import report_train_time, was_crowded

PROJECT = Path(__file__).parents[1]
RunStage = Callable[..., CompletedProcess[str]]
SetParams = Callable[[dict[str, Any]], None]
MakeSplit = Callable[..., Split]

# The lecture's three models, layer by layer.
LECTURE: dict[str, Callable[[], nn.Sequential]] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Linear(10, 10)),
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU()),
    "tiny_vgg": lambda: nn.Sequential(
        *(nn.Conv2d(1, 10, 3, padding=1), nn.ReLU(), nn.Conv2d(10, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(10, 10, 3, padding=1), nn.ReLU(), nn.Conv2d(10, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(10 * 7 * 7, 10)),
    ),
}
MODELS = {"model_0": "linear", "model_1": "mlp", "model_2": "tiny_vgg"}


class ImagesOneByOne(Dataset[tuple[Tensor, int]]):
    """What the lecture's data set gives: one image as a float tensor in [0, 1], and its label as a number."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.split.images_N1HW[index].to(torch.float32).div(255), int(self.split.labels_N[index])


def percent_right(labels: Tensor, logits: Tensor) -> float:
    return torch.eq(labels, logits.argmax(dim=1)).sum().item() / len(labels) * 100


def train_as_the_lecture(
    model: nn.Module, train: Split, test: Split, epochs: int, batch_size: int, lr: float
) -> Iterator[tuple[float, float, float, float]]:
    """The lecture's loop, plainly: gives train loss, train accuracy, test loss and test accuracy of each epoch."""
    train_loader = DataLoader(ImagesOneByOne(train), batch_size=batch_size, shuffle=True)
    test_loader = DataLoader(ImagesOneByOne(test), batch_size=batch_size, shuffle=False)
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(epochs):
        train_loss, train_acc = torch.tensor(0.0), 0.0
        model.train()
        for images, labels in train_loader:
            logits = model(images)
            loss = loss_function(logits, labels)
            train_loss += loss.detach()
            train_acc += percent_right(labels, logits)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        train_loss /= len(train_loader)
        train_acc /= len(train_loader)

        test_loss, test_acc = torch.tensor(0.0), 0.0
        model.eval()
        with torch.inference_mode():
            for images, labels in test_loader:
                logits = model(images)
                test_loss += loss_function(logits, labels)
                test_acc += percent_right(labels, logits)
            test_loss /= len(test_loader)
            test_acc /= len(test_loader)
        yield train_loss.item(), train_acc, test_loss.item(), test_acc


def lecture_result(
    arch: str, train: Split, test: Split, memory_format: str = "contiguous", **settings: Any
) -> tuple[nn.Module, list[tuple[float, float, float, float]]]:
    """The lecture's model, trained, and its figures: seeded before it is built and again before the loop."""
    torch.manual_seed(42)
    model = place(LECTURE[arch](), torch.device("cpu"), memory_format)
    torch.manual_seed(42)
    return model, list(train_as_the_lecture(model, train, test, **settings))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Both sides add up in the same order; and tests do not fight for the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(arch: str = "linear", **changes: Any) -> ModelParams:
    return replace(ModelParams(arch, hidden_units=10, epochs=3, batch_size=32, lr=0.1), **changes)


@pytest.mark.parametrize(
    ("arch", "memory_format"),
    [("linear", "contiguous"), ("mlp", "contiguous"), ("tiny_vgg", "contiguous"), ("tiny_vgg", "channels_last")],
)
@pytest.mark.parametrize(("images", "tests"), [(320, 64), (330, 77)], ids=["whole-batches", "short-last-batches"])
def test_figures_and_weights_are_those_of_the_lectures_loop_to_the_last_bit(
    make_split: MakeSplit, arch: str, memory_format: str, images: int, tests: int
) -> None:
    train, test = make_split(images), make_split(tests, seed=1)
    params = settings(arch, memory_format=memory_format)
    theirs, expected = lecture_result(arch, train, test, memory_format, epochs=3, batch_size=32, lr=0.1)

    torch.manual_seed(42)
    ours = place(build_model(arch, 10, 10), torch.device("cpu"), memory_format)
    torch.manual_seed(42)
    epochs = list(fit(ours, params, train, test))

    assert [(epoch.train_loss, epoch.train_acc, epoch.test_loss, epoch.test_acc) for epoch in epochs] == expected
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(our, their)


@pytest.mark.parametrize(("batch_size", "lr"), [(1, 0.01), (7, 0.05), (64, 0.5), (330, 0.1), (1000, 0.1)])
def test_the_lectures_loop_is_followed_at_any_batch_size_and_learning_rate(
    make_split: MakeSplit, batch_size: int, lr: float
) -> None:
    train, test = make_split(330), make_split(77, seed=1)
    theirs, expected = lecture_result("mlp", train, test, epochs=2, batch_size=batch_size, lr=lr)
    torch.manual_seed(42)
    ours = build_model("mlp", 10, 10)
    torch.manual_seed(42)
    epochs = list(fit(ours, settings("mlp", batch_size=batch_size, lr=lr, epochs=2), train, test))
    assert [(epoch.train_loss, epoch.train_acc, epoch.test_loss, epoch.test_acc) for epoch in epochs] == expected
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(our, their)


def test_what_is_drawn_after_training_is_what_the_lecture_would_draw(make_split: MakeSplit) -> None:
    train, test = make_split(100), make_split(40, seed=1)
    lecture_result("linear", train, test, epochs=2, batch_size=32, lr=0.1)
    theirs = torch.rand(3)
    torch.manual_seed(42)
    model = build_model("linear", 10, 10)
    torch.manual_seed(42)
    list(fit(model, settings(epochs=2), train, test))
    assert torch.equal(torch.rand(3), theirs)


def test_hits_are_counted_over_all_held_out_images(make_split: MakeSplit) -> None:
    train, test = make_split(330), make_split(77, seed=1)
    torch.manual_seed(42)
    model = build_model("linear", 10, 10)
    *_, last = fit(model, settings(), train, test)
    right = model(test.images_N1HW.float() / 255).argmax(dim=1) == test.labels_N
    assert last.correct == right.sum().item() > 40


def test_an_epoch_is_printed_as_the_lecture_does(make_split: MakeSplit) -> None:
    torch.manual_seed(42)
    (epoch,) = fit(build_model("linear", 10, 10), settings(epochs=1), make_split(50), make_split(20))
    assert str(epoch) == (
        f"Epoch: 1 | Train loss: {epoch.train_loss:.5f} | Train accuracy: {epoch.train_acc:.2f}% | "
        f"Test loss: {epoch.test_loss:.5f} | Test accuracy: {epoch.test_acc:.2f}%"
    )


def test_a_broken_weight_stops_the_training_at_its_first_batch(make_split: MakeSplit) -> None:
    model = build_model("linear", 10, 10)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(UserError) as caught:
        list(fit(model, settings(), make_split(100), make_split(20)))
    assert str(caught.value).startswith("the loss is nan in epoch 1, batch 1 of 4, with lr = 0.1; ")


@pytest.mark.parametrize(
    ("correct", "counts", "chance"),
    [
        (10, [10] * 10, True),  # what guessing gives
        (18, [10] * 10, True),  # three standard errors of 3 above that is 19
        (20, [10] * 10, False),
        (0, [10] * 10, True),
        (100, [10] * 10, False),
        (90, [90, 10], True),  # the commonest class alone
        (98, [90, 10], True),
        (100, [90, 10], False),
        (1100, [1000] * 10, False),  # a small lead counts where there are many images
    ],
)
def test_chance_is_what_naming_the_commonest_class_would_give(correct: int, counts: list[int], chance: bool) -> None:
    labels_N = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    assert is_chance(correct, labels_N) is chance


@pytest.mark.parametrize(
    ("cpu_seconds", "seconds", "threads", "crowded"),
    [
        (19, 10, 2, False),  # alone
        (10, 10, 2, True),  # half of each CPU
        (5, 10, 1, False),  # one thread waits for no other
        (2, 4, 2, False),  # too short to tell
    ],
)
def test_several_threads_that_must_share_their_cpus_are_noticed(
    cpu_seconds: float, seconds: float, threads: int, crowded: bool
) -> None:
    assert was_crowded(cpu_seconds, seconds, threads) == crowded


def test_the_training_time_is_printed_with_its_device_and_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_train_time(1.5, 33.849, torch.device("cpu")) == 33.849 - 1.5
    assert capsys.readouterr().out == "Train time on cpu: 32.349 seconds\n"


# The stage as a whole.


def outputs(name: str) -> set[str]:
    return {
        f"models/{name}.safetensors",
        f"metrics/train/{name}.json",
        f"metrics/timing/{name}.json",
        f"plots/curves/{name}.csv",
    }


def written(folder: Path) -> set[str]:
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in files if not name.startswith("data/")} - {"params.yaml"}


def read_curve(folder: Path, name: str) -> list[dict[str, float]]:
    rows = csv.DictReader((folder / f"plots/curves/{name}.csv").read_text().splitlines())
    return [{key: float(value) for key, value in row.items()} for row in rows]


def read_json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def refusal(run_stage: RunStage, folder: Path, name: str = "model_0") -> str:
    """The error of the stage, checked to be one line and to leave nothing behind."""
    done = run_stage("train", name)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("train: ")
    assert written(folder) == set()
    return line


@pytest.mark.parametrize(("name", "arch"), MODELS.items())
def test_the_stage_writes_the_lectures_figures_and_weights(
    prepared: Path, run_stage: RunStage, name: str, arch: str
) -> None:
    assert run_stage("train", name).returncode == 0
    assert written(prepared) == outputs(name)

    train, test = (load_split(prepared / f"data/prepared/{split}.safetensors") for split in ("train", "test"))
    memory_format = "channels_last" if arch == "tiny_vgg" else "contiguous"
    theirs, expected = lecture_result(arch, train, test, memory_format, epochs=3, batch_size=32, lr=0.1)
    keys = ["epoch", "train_loss", "train_acc", "test_loss", "test_acc"]
    curve = read_curve(prepared, name)
    assert [list(row) for row in curve] == [keys] * 3
    assert [tuple(row.values()) for row in curve] == [(epoch, *row) for epoch, row in enumerate(expected, 1)]
    ours = load_checkpoint(prepared / f"models/{name}.safetensors").model
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(our, their)


def test_the_metrics_are_the_last_epochs_and_what_varies_stands_apart(prepared: Path, run_stage: RunStage) -> None:
    done = run_stage("train", "model_2")
    last = read_curve(prepared, "model_2")[-1]
    metrics = read_json(prepared / "metrics/train/model_2.json")
    keys = ["train_loss", "train_acc", "test_loss", "test_acc"]
    assert list(metrics) == [*keys, "watched", "parameters"]
    assert {key: metrics[key] for key in keys} == {key: last[key] for key in keys}
    assert (metrics["watched"], metrics["parameters"]) == ("test", 7740)

    timing = read_json(prepared / "metrics/timing/model_2.json")
    assert list(timing)[:5] == ["train_seconds", "images_per_second", "device", "threads", "torch"]
    assert timing["images_per_second"] == pytest.approx(3 * 330 / timing["train_seconds"])
    assert (timing["device"], timing["threads"]) == ("cpu", 1)
    assert str(torch.__version__).startswith(timing["torch"].split("+")[0])
    assert f"Train time on cpu: {timing['train_seconds']:.3f} seconds" in done.stdout


def test_a_models_own_number_of_threads_goes_before_that_for_all(
    prepared: Path, run_stage: RunStage, set_params: SetParams
) -> None:
    set_params({"train.threads": 2, "model_2.threads": 1})
    run_stage("train", "model_2")
    assert read_json(prepared / "metrics/timing/model_2.json")["threads"] == torch.get_num_threads() == 1


def test_what_is_printed_names_the_model_and_each_epoch(prepared: Path, run_stage: RunStage) -> None:
    first, *epochs, last = run_stage("train", "model_0").stdout.splitlines()
    assert first == "model_0: LinearBaseline, 7,960 parameters, 330 images of synthetic"
    assert [re.match(r"Epoch: (\d) \| Train loss: \d+\.\d{5} \|", line)[1] for line in epochs] == ["1", "2", "3"]  # type: ignore[index]
    assert last.startswith("Train time on cpu: ")


def test_the_model_file_says_all_that_is_needed_to_build_it(prepared: Path, run_stage: RunStage) -> None:
    run_stage("train", "model_2")
    _, about = load_tensors(prepared / "models/model_2.safetensors")
    assert about == {
        "name": "model_2",
        "arch": "tiny_vgg",
        "hidden_units": 10,
        "memory_format": "channels_last",
        "class_names": list(CLASS_NAMES),
    }


def test_a_second_run_in_a_process_of_its_own_writes_the_same_bytes_but_for_the_timing(
    prepared: Path, run_stage: RunStage, set_params: SetParams
) -> None:
    set_params({"model_2.epochs": 8})  # enough to learn something
    assert run_stage("train", "model_2").returncode == 0
    first = {name: (prepared / name).read_bytes() for name in outputs("model_2")}
    for name in first:
        (prepared / name).unlink()
    done = subprocess.run(
        [sys.executable, "-Bm", "stages.train", "model_2"],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")  # no progress bar where nobody watches
    second = {name: (prepared / name).read_bytes() for name in outputs("model_2")}
    assert {name for name in first if first[name] != second[name]} <= {"metrics/timing/model_2.json"}
    assert written(prepared) == outputs("model_2")


def test_another_seed_gives_another_model(prepared: Path, run_stage: RunStage, set_params: SetParams) -> None:
    curves = []
    for seed in (42, 43):
        set_params({"seed": seed})
        run_stage("train", "model_0")
        curves.append(read_curve(prepared, "model_0"))
    assert curves[0] != curves[1]


def test_the_settings_of_the_model_named_are_used_and_no_others(
    prepared: Path, run_stage: RunStage, set_params: SetParams
) -> None:
    set_params({"model_1.epochs": 2, "model_1.hidden_units": 5, "model_1.lr": 0.5, "model_1.batch_size": 330})
    run_stage("train", "model_1")
    assert len(read_curve(prepared, "model_1")) == 2
    assert read_json(prepared / "metrics/train/model_1.json")["parameters"] == 784 * 5 + 5 + 5 * 10 + 10
    run_stage("train", "model_0")
    assert len(read_curve(prepared, "model_0")) == 3


def test_with_validation_images_training_never_looks_at_the_test_images(
    prepared: Path, make_split: MakeSplit, run_stage: RunStage
) -> None:
    validation = make_split(60, seed=2)
    save_split(prepared / "data/prepared/validation.safetensors", validation)
    assert run_stage("train", "model_0").returncode == 0
    assert read_json(prepared / "metrics/train/model_0.json")["watched"] == "validation"
    deterministic = outputs("model_0") - {"metrics/timing/model_0.json"}
    first = {name: (prepared / name).read_bytes() for name in deterministic}

    save_split(prepared / "data/prepared/test.safetensors", make_split(33, seed=9))  # other images altogether
    assert run_stage("train", "model_0").returncode == 0
    assert {name: (prepared / name).read_bytes() for name in deterministic} == first

    train = load_split(prepared / "data/prepared/train.safetensors")
    _, expected = lecture_result("linear", train, validation, epochs=3, batch_size=32, lr=0.1)
    last = read_curve(prepared, "model_0")[-1]
    assert (last["test_loss"], last["test_acc"]) == expected[-1][2:]


def test_without_validation_images_the_curve_is_of_the_test_images(
    prepared: Path, make_split: MakeSplit, run_stage: RunStage
) -> None:
    run_stage("train", "model_0")
    before = read_curve(prepared, "model_0")
    save_split(prepared / "data/prepared/test.safetensors", make_split(77, seed=9))
    run_stage("train", "model_0")
    after = read_curve(prepared, "model_0")
    assert [row["train_loss"] for row in before] == [row["train_loss"] for row in after]
    assert [row["test_loss"] for row in before] != [row["test_loss"] for row in after]


def test_a_training_that_diverges_stops_with_epoch_batch_and_learning_rate(
    prepared: Path, run_stage: RunStage, set_params: SetParams
) -> None:
    set_params({"model_2.lr": 1000})
    line = refusal(run_stage, prepared, "model_2")
    assert re.fullmatch(
        r"train: the loss is (nan|inf) in epoch \d, batch \d+ of 11, with lr = 1000; "
        r"training has diverged: try a smaller lr",
        line,
    )


def test_a_training_that_diverges_at_its_last_step_is_refused_too(
    prepared: Path, make_split: MakeSplit, run_stage: RunStage, set_params: SetParams
) -> None:
    # The loss before each of the six steps is finite; the weights after the last one are of no use.
    save_split(prepared / "data/prepared/train.safetensors", make_split(6))
    set_params({"model_0.lr": 1000, "model_0.batch_size": 1, "model_0.epochs": 1})
    line = refusal(run_stage, prepared)
    assert "epoch 1" in line
    assert "lr = 1000" in line


def test_a_diverged_run_leaves_the_earlier_model_as_it_was(
    prepared: Path, run_stage: RunStage, set_params: SetParams
) -> None:
    run_stage("train", "model_2")
    before = {name: (prepared / name).read_bytes() for name in outputs("model_2")}
    set_params({"model_2.lr": 1000})
    assert run_stage("train", "model_2").returncode == 1
    assert {name: (prepared / name).read_bytes() for name in written(prepared)} == before


def test_a_model_no_better_than_chance_is_said_aloud(
    prepared: Path, run_stage: RunStage, set_params: SetParams
) -> None:
    set_params({"model_1.lr": 1e-9})
    done = run_stage("train", "model_1")
    assert done.returncode == 0
    assert done.stderr == "train: warning: model_1 ends no better than chance; try another lr or more epochs\n"
    assert written(prepared) == outputs("model_1")


def test_an_unknown_model_is_refused_with_those_that_are_known(prepared: Path, run_stage: RunStage) -> None:
    line = refusal(run_stage, prepared, "model_7")
    assert line == "train: no model named 'model_7' in params.yaml; there are: model_0, model_1, model_2"


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_missing_images_are_named_with_the_remedy(prepared: Path, run_stage: RunStage, split: str) -> None:
    (prepared / f"data/prepared/{split}.safetensors").unlink()
    line = refusal(run_stage, prepared)
    assert line == f"train: data/prepared/{split}.safetensors is missing; run `dvc repro` to make it"


def test_damaged_images_are_named(prepared: Path, run_stage: RunStage) -> None:
    path = prepared / "data/prepared/train.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "data/prepared/train.safetensors is damaged" in refusal(run_stage, prepared)


def test_a_training_that_needs_more_memory_than_there_is_says_what_to_make_smaller(
    prepared: Path, run_stage: RunStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.train.fit", lambda *_: torch.empty(10**15))
    done = run_stage("train", "model_1")
    assert done.returncode == 1
    assert done.stderr == "train: memory is short; try a smaller model_1.batch_size or model_1.hidden_units\n"


def test_a_gpu_asked_for_where_there_is_none_is_refused(
    prepared: Path, run_stage: RunStage, set_params: SetParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    set_params({"train.device": "cuda"})
    line = refusal(run_stage, prepared)
    assert line == "train: train.device is cuda, but this machine has only cpu; auto picks for you"


def test_a_wrong_setting_of_any_stage_stops_it_before_any_work(
    prepared: Path, run_stage: RunStage, set_params: SetParams
) -> None:
    set_params({"model_2.epochs": 0})
    assert "model_2.epochs is 0; it must be a whole number from 1" in refusal(run_stage, prepared, "model_0")


def test_an_old_library_stops_it_before_any_work(
    prepared: Path, run_stage: RunStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.lib.base.versions.version", lambda library: "1.10.0")
    assert "torch 1.10.0 is too old" in refusal(run_stage, prepared)


def test_without_a_model_the_usage_is_shown(prepared: Path, run_stage: RunStage) -> None:
    done = run_stage("train")
    assert done.returncode == 2
    assert "usage: python -m stages.train" in done.stderr
