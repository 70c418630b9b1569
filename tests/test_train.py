"""The training against the lecture's loop to the last bit, and the train stage from its settings to its outputs."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from stages.lib.base.errors import UserError
from stages.lib.base.files import read_json, sha256_of
from stages.lib.base.inputs import Inputs
from stages.lib.base.params import Params, load_params
from stages.lib.base.tensors import load_tensors
from stages.lib.data.datasets import Split, load_split, save_split
from stages.lib.learning.devices import place
from stages.lib.learning.distributed import World
from stages.lib.learning.models import build_model, load_checkpoint
from stages.lib.learning.training import Epoch, Training, check_training, is_chance
from stages.lib.source.idx_sets import CLASS_NAMES
from stages.train import made_from, report_train_time
from tests.helpers import (
    GREY_28,
    MakeSplit,
    RunStage,
    SetParams,
    StageRefusal,
    file_names,
    model_params,
    read_curve,
    run_process,
)

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
Row = tuple[float, float, float, float]  # train loss, train accuracy, test loss, test accuracy


class ImagesOneByOne(Dataset[tuple[Tensor, int]]):
    """The lecture's data set: an item is one image as a float tensor in [0, 1], and its label as a number."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.split.images_NCHW[index].to(torch.float32).div(255), int(self.split.labels_N[index])


def percent_correct(labels: Tensor, logits: Tensor) -> float:
    return torch.eq(labels, logits.argmax(dim=1)).sum().item() / len(labels) * 100


def train_as_the_lecture(
    model: nn.Module, train: Split, test: Split, epochs: int, batch_size: int, lr: float
) -> Iterator[Row]:
    """Train by the lecture's loop, written plainly; yield the metrics of each epoch."""
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
            train_acc += percent_correct(labels, logits)
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
                test_acc += percent_correct(labels, logits)
            test_loss /= len(test_loader)
            test_acc /= len(test_loader)
        yield train_loss.item(), train_acc, test_loss.item(), test_acc


def lecture_result(
    arch: str,
    train: Split,
    test: Split,
    memory_format: str = "contiguous",
    epochs: int = 3,
    batch_size: int = 32,
    lr: float = 0.1,
) -> tuple[nn.Module, list[Row]]:
    """Train the lecture's model: seeded before it is built and again before the loop."""
    torch.manual_seed(42)
    model = place(LECTURE[arch](), torch.device("cpu"), memory_format)
    torch.manual_seed(42)
    return model, list(train_as_the_lecture(model, train, test, epochs, batch_size, lr))


def our_result(arch: str, train: Split, test: Split, **changes: Any) -> tuple[nn.Module, list[Epoch]]:
    """Train our model, seeded in the same way."""
    params = model_params(arch, **changes)
    torch.manual_seed(42)
    model = place(build_model(arch, GREY_28, 10, 10), torch.device("cpu"), params.memory_format)
    torch.manual_seed(42)
    return model, list(Training(model, params, train, test).run())


def assert_lecture(arch: str, train: Split, test: Split, **changes: Any) -> None:
    """Check that metrics and weights are those of the lecture's loop, to the last bit."""
    theirs, expected = lecture_result(arch, train, test, **changes)
    ours, epochs = our_result(arch, train, test, **changes)
    for number, (epoch, row) in enumerate(zip(epochs, expected, strict=True), 1):
        assert (epoch.epoch, epoch.train_loss, epoch.train_acc, epoch.test_loss, epoch.test_acc) == (number, *row)
    assert_same_weights(ours, theirs)


def assert_same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(our, their)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Both sides add up in the same order; and tests do not fight for the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("arch", "memory_format"),
    [("linear", "contiguous"), ("mlp", "contiguous"), ("tiny_vgg", "contiguous"), ("tiny_vgg", "channels_last")],
)
@pytest.mark.parametrize(("images", "tests"), [(320, 64), (330, 77)], ids=["whole-batches", "short-last-batches"])
def test_lecture_loop(make_split: MakeSplit, arch: str, memory_format: str, images: int, tests: int) -> None:
    assert_lecture(arch, make_split(images), make_split(tests, seed=1), memory_format=memory_format)


@pytest.mark.parametrize(("batch_size", "lr"), [(1, 0.01), (7, 0.05), (64, 0.5), (330, 0.1), (1000, 0.1)])
def test_lecture_loop_with_other_settings(make_split: MakeSplit, batch_size: int, lr: float) -> None:
    assert_lecture("mlp", make_split(330), make_split(77, seed=1), epochs=2, batch_size=batch_size, lr=lr)


def test_random_draws_after_training(make_split: MakeSplit) -> None:
    train, test = make_split(100), make_split(40, seed=1)
    lecture_result("linear", train, test)
    theirs = torch.rand(3)
    our_result("linear", train, test)
    assert torch.equal(torch.rand(3), theirs)


def test_correct_counts_all_held_out_images(make_split: MakeSplit) -> None:
    test = make_split(77, seed=1)
    model, (*_, last) = our_result("linear", make_split(330), test)
    correct = model(test.images_NCHW.float() / 255).argmax(dim=1) == test.labels_N
    assert last.correct == correct.sum().item() > 40


@pytest.mark.parametrize(("held_out", "printed"), [("test", "Test"), ("validation", "Validation")])
def test_epoch_line(held_out: str, printed: str) -> None:
    epoch = Epoch(1, train_loss=0.590386, train_acc=79.0, test_loss=0.509536, test_acc=82.0387, correct=8203)
    assert epoch.line(held_out) == (
        "Epoch: 1 | Train loss: 0.59039 | Train accuracy: 79.00% | "
        f"{printed} loss: 0.50954 | {printed} accuracy: 82.04%"
    )


def test_broken_weight_stops_at_first_batch(make_split: MakeSplit) -> None:
    model = build_model("linear", GREY_28, 10, 10)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match=r"nan in epoch 1, batch 1 of 4, with lr = 0\.1"):
        list(Training(model, model_params(), make_split(100), make_split(20)).run())


@pytest.mark.parametrize(
    ("correct", "counts", "chance"),
    [
        (10, [10] * 10, True),  # what guessing gives
        (18, [10] * 10, True),  # three standard errors of 3 above that is 19
        (20, [10] * 10, False),
        (0, [10] * 10, True),
        (100, [10] * 10, False),
        (90, [90, 10], True),  # the commonest class alone
        (95, [90, 10], True),
        (98, [90, 10], False),  # though three standard errors are 9
        (100, [90, 10], False),
        (4, [2, 2], False),  # of few images all are right
        (3, [2, 2], True),
        (50, [45, 5], False),
        (130, [100] * 10, False),
        (128, [100] * 10, True),  # three standard errors are 28.5
        (1100, [1000] * 10, False),  # a small lead counts where there are many images
    ],
)
def test_chance_is_the_commonest_class(correct: int, counts: list[int], chance: bool) -> None:
    labels_N = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    assert is_chance(correct, labels_N) is chance


def test_train_time_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_train_time(1.5, 33.849, torch.device("cpu")) == 33.849 - 1.5
    assert capsys.readouterr().out == "Train time on cpu: 32.349 seconds\n"


# The stage as a whole.


def results(name: str) -> set[str]:
    """Return what a training gives; its timing varies and is no result."""
    return {f"models/{name}.safetensors", f"metrics/train/{name}.json", f"plots/curves/{name}.csv"}


def contents(folder: Path, name: str) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in results(name)}


@pytest.mark.parametrize(("name", "arch"), MODELS.items())
def test_stage_is_the_lectures_training(prepared: Path, run_stage: RunStage, name: str, arch: str) -> None:
    before = file_names(prepared)
    assert run_stage("train", name).returncode == 0
    assert file_names(prepared) - before == results(name) | {f"metrics/timing/{name}.json"}

    train, test = (load_split(prepared / f"data/prepared/{split}.safetensors") for split in ("train", "test"))
    theirs, expected = lecture_result(arch, train, test, "channels_last" if arch == "tiny_vgg" else "contiguous")
    curve = read_curve(prepared, name)
    assert list(curve[0]) == ["epoch", "train_loss", "train_acc", "test_loss", "test_acc"]
    assert [tuple(row.values()) for row in curve] == [(epoch, *row) for epoch, row in enumerate(expected, 1)]
    assert_same_weights(load_checkpoint(prepared / f"models/{name}.safetensors").model, theirs)


def test_metrics_of_last_epoch(prepared: Path, run_stage: RunStage) -> None:
    run_stage("train", "model_2")
    last = read_curve(prepared, "model_2")[-1]
    del last["epoch"]
    assert read_json("metrics/train/model_2.json") == {**last, "watched": "test", "parameters": 7740}


def test_timing(prepared: Path, run_stage: RunStage) -> None:
    done = run_stage("train", "model_2")
    timing = read_json("metrics/timing/model_2.json")
    assert timing["images_per_second"] == pytest.approx(3 * 330 / timing["train_seconds"])
    assert (timing["device"], timing["threads"]) == ("cpu", 1)
    assert timing["torch"].split("+")[0] == version("torch").split("+")[0]
    assert timing["model_sha256"] == {"model_2": sha256_of("models/model_2.safetensors")}
    assert f"Train time on cpu: {timing['train_seconds']:.3f} seconds" in done.stdout


def test_model_has_threads_of_its_own(prepared: Path, run_stage: RunStage, set_params: SetParams) -> None:
    set_params({"train.threads": 2, "model_2.threads": 1})
    run_stage("train", "model_2")
    assert read_json("metrics/timing/model_2.json")["threads"] == torch.get_num_threads() == 1


def test_printed_lines(prepared: Path, run_stage: RunStage) -> None:
    first, *epochs, last = run_stage("train", "model_0").stdout.splitlines()
    assert all(words in first for words in ("model_0", "LinearBaseline", "7,960", "330", "synthetic"))
    assert [line[:23] for line in epochs] == [f"Epoch: {epoch} | Train loss: " for epoch in (1, 2, 3)]
    assert last.startswith("Train time on cpu: ")


def test_model_file_describes_the_model(prepared: Path, run_stage: RunStage) -> None:
    run_stage("train", "model_2")
    _, about = load_tensors("models/model_2.safetensors")
    assert about == {
        "name": "model_2",
        "arch": "tiny_vgg",
        "input_shape": [1, 28, 28],
        "hidden_units": 10,
        "memory_format": "channels_last",
        "class_names": list(CLASS_NAMES),
        "source": "synthetic",
        "data_set": "FashionMNIST",
        "brought": {},
    }


def test_stage_that_lists_another_model(prepared: Path, stage_refusal: StageRefusal) -> None:
    """As a stage that was copied by hand may: an edit of its model would rerun nothing."""
    Path("dvc.yaml").write_text("stages: {train_model_1: {deps: [data/prepared], params: [seed, train, model_0]}}")
    assert "train_model_1 does not list model_1 in params.yaml" in stage_refusal("train", "model_1")


def test_edit_while_the_parameters_are_read(
    prepared: Path, run_stage: RunStage, set_params: SetParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC would record the edit."""
    deps = ["data/prepared", "stages/architectures/linear.py"]
    Path("dvc.yaml").write_text(f"stages: {{train_model_0: {{deps: {deps}, params: [seed, train, model_0]}}}}")

    def read_and_edit() -> Params:
        params = load_params()
        set_params({"model_0.lr": 0.01})
        return params

    monkeypatch.setattr("stages.train.load_params", read_and_edit)
    done = run_stage("train", "model_0")
    assert (done.returncode, "model_0 in params.yaml changed" in done.stderr) == (1, True)
    assert not (prepared / "models/model_0.safetensors").exists()


def test_architecture_that_begins_with_a_file(
    train_ours: Callable[..., tuple[str, str]], prepared: Path, run_stage: RunStage, stage_refusal: StageRefusal
) -> None:
    """DVC has to know it, and the architecture itself, as a stage that was copied by hand may not."""
    torch.save(torch.zeros(()), "weights.pt")
    stage = train_ours(
        "nn.Linear(784, num_classes)", "self.layers(x.flatten(1)) + __import__('torch').load('weights.pt')"
    )
    deps = ["data/prepared"]
    for missing in ("stages/architectures/ours.py", "weights.pt"):
        Path("dvc.yaml").write_text(f"stages: {{train_model_0: {{deps: {deps}, params: [seed, train, model_0]}}}}")
        assert f"does not list {missing}" in stage_refusal(*stage)
        deps.append(missing)
    Path("dvc.yaml").write_text(f"stages: {{train_model_0: {{deps: {deps}, params: [seed, train, model_0]}}}}")
    assert run_stage(*stage).returncode == 0


def test_architecture_that_begins_with_a_file_in_a_folder(
    train_ours: Callable[..., tuple[str, str]], prepared: Path, stage_refusal: StageRefusal
) -> None:
    """Its path is put together, as pathlib does it: neither text is that of a file."""
    Path("weights").mkdir()
    Path("weights/start.txt").write_text("0.5")
    read = "float((__import__('pathlib').Path('weights') / 'start.txt').read_text())"
    stage = train_ours("nn.Linear(784, num_classes)", f"self.layers(x.flatten(1)) + {read}")
    deps = ["data/prepared", "stages/architectures/ours.py"]
    Path("dvc.yaml").write_text(f"stages: {{train_model_0: {{deps: {deps}, params: [seed, train, model_0]}}}}")
    assert "does not list weights/start.txt" in stage_refusal(*stage)


def test_another_process_gives_the_same_bytes(prepared: Path, run_stage: RunStage, set_params: SetParams) -> None:
    set_params({"model_2.epochs": 8})  # enough to learn something
    assert run_stage("train", "model_2").returncode == 0
    first = contents(prepared, "model_2")
    for name in first:
        (prepared / name).unlink()
    done = run_process("train", "model_2", PYTHONHASHSEED="7")
    assert (done.returncode, done.stderr) == (0, "")  # no progress bar where nobody watches
    assert contents(prepared, "model_2") == first


def test_limits_of_openmp_change_nothing(prepared: Path, run_stage: RunStage, set_params: SetParams) -> None:
    set_params({"train.threads": 2, "model_2.epochs": 1})
    run_stage("train", "model_2")
    first = contents(prepared, "model_2")
    done = run_process("train", "model_2", OMP_DYNAMIC="true", OMP_MAX_ACTIVE_LEVELS="0", OMP_THREAD_LIMIT="1")
    assert done.returncode == 0  # with any of the three it would wait for ever
    assert contents(prepared, "model_2") == first


@pytest.mark.parametrize("variable", ["DNNL_DEFAULT_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE"])
def test_onednn_computes_with_all_digits(variable: str) -> None:
    seen = [sys.executable, "-c", f"import os, stages; print(os.environ.get('{variable}'))"]
    done = subprocess.run(seen, env=os.environ | {variable: "BF16"}, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


def test_another_seed_gives_another_model(prepared: Path, run_stage: RunStage, set_params: SetParams) -> None:
    run_stage("train", "model_0")
    first = contents(prepared, "model_0")
    set_params({"seed": 43})
    run_stage("train", "model_0")
    assert all(content != first[path] for path, content in contents(prepared, "model_0").items())


def test_other_seeds_change_no_training(prepared: Path, run_stage: RunStage, set_params: SetParams) -> None:
    run_stage("train", "model_0")
    first = contents(prepared, "model_0")
    set_params({"prepare.seed": 1, "fetch.synthetic.seed": 1, "confusion.seed": 1})
    run_stage("train", "model_0")
    assert contents(prepared, "model_0") == first


def test_bfloat16_is_for_the_step_alone(prepared: Path, run_stage: RunStage, set_params: SetParams) -> None:
    weights = []
    for precision in ("float32", "bfloat16"):
        set_params({"train.precision": precision})
        assert run_stage("train", "model_0").returncode == 0
        weights.append(load_checkpoint("models/model_0.safetensors").model.state_dict())
    for exact, rounded in zip(*(each.values() for each in weights), strict=True):
        assert rounded.dtype == torch.float32
        assert not torch.equal(exact, rounded)
        torch.testing.assert_close(exact, rounded, rtol=0, atol=0.01)


def test_settings_of_the_named_model(prepared: Path, run_stage: RunStage, set_params: SetParams) -> None:
    set_params({"model_1.epochs": 2, "model_1.hidden_units": 5, "model_1.lr": 0.5, "model_1.batch_size": 330})
    run_stage("train", "model_1")
    assert len(read_curve(prepared, "model_1")) == 2
    assert read_json("metrics/train/model_1.json")["parameters"] == 784 * 5 + 5 + 5 * 10 + 10
    run_stage("train", "model_0")
    assert len(read_curve(prepared, "model_0")) == 3


def test_validation_images_are_watched(prepared: Path, make_split: MakeSplit, run_stage: RunStage) -> None:
    validation = make_split(60, seed=2)
    save_split("data/prepared/validation.safetensors", validation)
    printed = run_stage("train", "model_0").stdout
    assert read_json("metrics/train/model_0.json")["watched"] == "validation"
    assert (printed.count("Validation loss"), printed.count("Test")) == (3, 0)
    train = load_split("data/prepared/train.safetensors")
    _, expected = lecture_result("linear", train, validation)
    last = read_curve(prepared, "model_0")[-1]
    assert (last["test_loss"], last["test_acc"]) == expected[-1][2:]


@pytest.mark.parametrize("validation", [60, 0])
def test_test_images_only_without_validation(
    prepared: Path, make_split: MakeSplit, run_stage: RunStage, validation: int
) -> None:
    save_split("data/prepared/validation.safetensors", make_split(validation, seed=2))
    run_stage("train", "model_0")
    first = contents(prepared, "model_0")
    save_split("data/prepared/test.safetensors", make_split(33, seed=9))  # other images altogether
    run_stage("train", "model_0")
    changed = {path for path, content in contents(prepared, "model_0").items() if content != first[path]}
    seen = {"metrics/train/model_0.json", "plots/curves/model_0.csv"}
    assert changed == (set() if validation else seen)  # the model never sees them


@pytest.mark.parametrize(("key", "value"), [("keep", "best"), ("patience", 2)])
def test_test_images_choose_no_epoch(
    prepared: Path, stage_refusal: StageRefusal, set_params: SetParams, key: str, value: object
) -> None:
    set_params({f"model_0.{key}": value})
    assert "set prepare.validation" in stage_refusal("train", "model_0")


def test_divergence_leaves_the_earlier_model(
    prepared: Path, run_stage: RunStage, stage_refusal: StageRefusal, set_params: SetParams
) -> None:
    run_stage("train", "model_2")
    set_params({"model_2.lr": 1000})
    line = stage_refusal("train", "model_2")  # which changes no file
    assert re.search(r"the loss is (nan|inf) in epoch \d, batch \d+ of 11, with lr = 1000;", line)


def test_divergence_at_the_last_step(
    prepared: Path, make_split: MakeSplit, stage_refusal: StageRefusal, set_params: SetParams
) -> None:
    # The loss before each of the six steps is finite; the weights after the last one are of no use.
    save_split("data/prepared/train.safetensors", make_split(6))
    set_params({"model_0.lr": 1000, "model_0.batch_size": 1, "model_0.epochs": 1})
    line = stage_refusal("train", "model_0")
    assert "epoch 1" in line
    assert "lr = 1000" in line


def test_warning_at_chance(prepared: Path, run_stage: RunStage, set_params: SetParams) -> None:
    set_params({"model_1.lr": 1e-9})
    done = run_stage("train", "model_1")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert "warning: model_1 ends no better than chance" in line


def test_warning_of_a_short_batch(prepared: Path, run_stage: RunStage, make_split: MakeSplit) -> None:
    """Of 33 images in batches of 32 the last one is half of the accuracy."""
    save_split("data/prepared/test.safetensors", make_split(33))
    (line,) = run_stage("train", "model_0").stderr.splitlines()
    assert "the last 1 of the 33 test images count as much as 32 others" in line


NORMALIZED = "nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Dropout(), nn.Linear(784, num_classes))"


@pytest.fixture
def train_ours(
    prepared: Path, set_params: SetParams, write_architecture: Callable[[str], None]
) -> Callable[..., tuple[str, str]]:
    """`train_ours(layers, logits)` makes model_0 one with these layers; `logits` says what it gives for `x`."""

    def write(layers: str, logits: str = "self.layers(x)") -> tuple[str, str]:
        write_architecture(f"""
from torch import nn

class Ours(nn.Module):
    def __init__(self, input_shape, hidden_units, num_classes):
        super().__init__()
        self.layers = {layers}

    def forward(self, x):
        return {logits}

build = Ours
""")
        set_params({"model_0.arch": "ours"})
        return "train", "model_0"

    return write


@pytest.mark.parametrize(
    ("logits", "problem"),
    [
        ("self.layers(x).reshape(1, -1)", "[1, 20]"),
        ("self.layers(x).double()", "float64"),
        ("self.layers(x).bfloat16()", "bfloat16"),
        ("(self.layers(x), 0) if self.training else self.layers(x)", "tuple"),
        ("self.layers(x)[:1] if self.training else self.layers(x)", "[1, 10]"),
        ("nn.functional.dropout(self.layers(x))", "random"),
        ("self.layers(x).detach()", "no weight"),
        ("self.requires_grad_(False).layers(x)", "no weight"),
    ],
)
def test_architecture_that_cannot_train(
    train_ours: Callable[..., tuple[str, str]], stage_refusal: StageRefusal, logits: str, problem: str
) -> None:
    line = stage_refusal(*train_ours(NORMALIZED, logits))
    assert line.startswith("train: stages/architectures/ours.py: ")
    assert problem in line


def test_unused_weights(train_ours: Callable[..., tuple[str, str]], run_stage: RunStage) -> None:
    """They stay as they are; several processes would wait for them."""
    layers = "nn.ModuleList([nn.Linear(784, num_classes), nn.Linear(1, 1)])"
    assert run_stage(*train_ours(layers, "self.layers[0](x.flatten(1))")).returncode == 0
    with pytest.raises(UserError, match=r"layers\.1\.weight.*train\.processes"):
        check_training(
            build_model("ours", GREY_28, 10, 10),
            model_params("ours"),
            load_split("data/prepared/train.safetensors"),
            World(0, 2),
        )


def test_last_batch_of_one_image(
    train_ours: Callable[..., tuple[str, str]], stage_refusal: StageRefusal, set_params: SetParams
) -> None:
    set_params({"model_0.batch_size": 47})
    line = stage_refusal(*train_ours(NORMALIZED))  # batch normalization needs two
    assert "one image" in line
    assert "batch_size" in line


def test_last_batch_of_one_image_where_that_works(
    train_ours: Callable[..., tuple[str, str]], run_stage: RunStage, set_params: SetParams
) -> None:
    set_params({"model_0.batch_size": 329})
    normalized = "nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(784, num_classes))"
    assert run_stage(*train_ours(normalized)).returncode == 0


def test_frozen_weights_stay(train_ours: Callable[..., tuple[str, str]], run_stage: RunStage) -> None:
    layers = "nn.Sequential(nn.Flatten(), nn.Linear(784, 10).requires_grad_(False), nn.Linear(10, num_classes))"
    assert run_stage(*train_ours(layers)).returncode == 0
    trained = load_checkpoint("models/model_0.safetensors").model.state_dict()
    torch.manual_seed(42)
    first = build_model("ours", GREY_28, 10, 10).state_dict()
    same = {key for key, weights in first.items() if torch.equal(trained[key], weights)}
    assert same == {"layers.1.weight", "layers.1.bias"}


def test_looking_at_a_model_changes_nothing(
    train_ours: Callable[..., tuple[str, str]], run_stage: RunStage, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = train_ours(NORMALIZED)
    run_stage(*stage)
    first = contents(prepared, "model_0")
    monkeypatch.setattr("stages.lib.learning.training.check_training", lambda *_: None)
    run_stage(*stage)
    assert contents(prepared, "model_0") == first


@pytest.mark.usefixtures("prepared")
def test_made_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or by other instructions of the same one: a training that began there would end with the bytes of neither."""

    def made() -> dict[str, Any]:
        return made_from("model_0", load_params(), Inputs("train_model_0"), torch.device("cpu"))

    first = made()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    second = made()
    monkeypatch.setattr("stages.train.machine", lambda: "another processor")
    assert first != second != made()


def test_unknown_model(prepared: Path, stage_refusal: StageRefusal) -> None:
    line = stage_refusal("train", "model_7")
    assert "model_7" in line
    assert "model_0, model_1, model_2" in line


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_missing_images(prepared: Path, stage_refusal: StageRefusal, split: str) -> None:
    (prepared / f"data/prepared/{split}.safetensors").unlink()
    assert f"data/prepared/{split}.safetensors is missing" in stage_refusal("train", "model_0")


def test_damaged_images(prepared: Path, stage_refusal: StageRefusal) -> None:
    path = prepared / "data/prepared/train.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "data/prepared/train.safetensors is damaged" in stage_refusal("train", "model_0")


def test_short_memory(prepared: Path, stage_refusal: StageRefusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.lib.learning.training.Training.run", lambda *_: torch.empty(10**15))
    line = stage_refusal("train", "model_1")
    assert "memory" in line
    assert "model_1.batch_size" in line


def test_absent_gpu(
    prepared: Path, stage_refusal: StageRefusal, set_params: SetParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    set_params({"train.device": "cuda"})
    assert "train.device is cuda" in stage_refusal("train", "model_0")


def test_wrong_setting_of_another_model(prepared: Path, stage_refusal: StageRefusal, set_params: SetParams) -> None:
    set_params({"model_2.epochs": 0})
    assert "model_2.epochs is 0" in stage_refusal("train", "model_0")


def test_old_library(prepared: Path, stage_refusal: StageRefusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.lib.base.versions.version", lambda name: "1.10.0" if name == "torch" else version(name))
    assert "torch 1.10.0 is too old" in stage_refusal("train", "model_0")


def test_no_model_named(prepared: Path, run_stage: RunStage) -> None:
    done = run_stage("train")
    assert done.returncode == 2
    assert "usage: python -m stages.train" in done.stderr
