"""Recipes: optimizers, schedules, averaged weights, early stopping; by torch's own, written out."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from stages.lib.data.datasets import Batch, Split, make_loader
from stages.lib.learning import training as training_module
from stages.lib.learning.devices import set_seeds
from stages.lib.learning.evaluation import metrics_of
from stages.lib.learning.models import build_model
from stages.lib.learning.optimizers import forgetting_steps, learning_rates, make_optimizer
from stages.lib.learning.training import Epoch, Training
from stages.lib.learning.unfinished import Unfinished
from tests.helpers import GREY_28, MakeSplit, model_params

ALL = {
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 1e-3,
    "schedule": "onecycle",
    "label_smoothing": 0.1,
    "augment": ["flip", "shift", "erase"],
    "ema": 0.9,
    "keep": "best",
}
RECIPES: list[dict[str, Any]] = [
    {},
    ALL,
    {"optimizer": "adam", "lr": 0.003, "schedule": "cosine", "patience": 2},
    {"optimizer": "adamw", "lr": 0.003, "weight_decay": 0.1, "ema": 0.5},
]
NAMES = ["plain", "all", "adam", "adamw"]


@pytest.fixture
def split(make_split: MakeSplit) -> Split:
    """330 images: eleven batches, the last of ten images."""
    return make_split(330)


def begin(split: Split, arch: str = "tiny_vgg", **changes: Any) -> Training:
    set_seeds(42)
    model = build_model(arch, GREY_28, 10, 10)
    set_seeds(42)
    return Training(model, model_params(arch, **changes), split, split)


def weights_of(model: nn.Module) -> list[Tensor]:
    return [values.detach().clone() for values in model.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle"])
@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam", "adamw"])
def test_weights_are_those_of_torch(split: Split, optimizer: str, schedule: str) -> None:
    """As its documentation has it: the scheduler takes a step after each step of the optimizer."""
    nesterov = optimizer == "nesterov"
    kinds = {"adam": {"optimizer": "adam"}, "adamw": {"optimizer": "adamw"}}
    kind = kinds.get(optimizer, {"momentum": 0.9, "nesterov": nesterov})
    recipe = {**kind, "schedule": schedule, "weight_decay": 0.01, "lr": 0.01}
    ours = begin(split, "linear", epochs=2, label_smoothing=0.1, **recipe)
    theirs = copy.deepcopy(ours.model)
    set_seeds(42)
    assert len(list(ours.run())) == 2

    shared: Any = {"lr": 0.01, "weight_decay": 0.01, "fused": True}
    reference: Any
    if optimizer in kinds:
        reference = (Adam if optimizer == "adam" else AdamW)(theirs.parameters(), **shared)
    else:
        reference = SGD(theirs.parameters(), momentum=0.9, nesterov=nesterov, **shared)
    scheduler: Any = None
    if schedule == "cosine":
        scheduler = CosineAnnealingLR(reference, T_max=22)
    elif schedule == "onecycle":
        scheduler = OneCycleLR(reference, 0.01, total_steps=22, cycle_momentum=False)
    set_seeds(42)
    for _ in range(2):
        for batch in make_loader(split, 32, shuffle=True):
            reference.zero_grad()
            cross_entropy(theirs(batch.images_BCHW), batch.labels_B, label_smoothing=0.1).backward()
            reference.step()
            if scheduler:
                scheduler.step()
        list(make_loader(split, 32))  # the evaluation after an epoch draws a number too
    assert same(weights_of(ours.model), weights_of(theirs))


@pytest.mark.parametrize(
    "knob", [{"optimizer": "adam"}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"schedule": "cosine"}]
)
def test_each_knob_alone_has_an_effect(split: Split, knob: dict[str, Any]) -> None:
    plain, other = begin(split, "linear", epochs=1), begin(split, "linear", epochs=1, **knob)
    assert len([*plain.run(), *other.run()]) == 2
    assert not same(weights_of(plain.model), weights_of(other.model))


def test_learning_rates() -> None:
    constant, cosine, onecycle = (
        learning_rates(model_params(lr=1.0, schedule=schedule), 100) for schedule in ("constant", "cosine", "onecycle")
    )
    assert set(constant) == {1.0}
    assert cosine[0] == 1
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[50] == pytest.approx(0.5)
    assert onecycle[0] == pytest.approx(1 / 25)
    assert max(onecycle) == onecycle[29] == pytest.approx(1)
    assert onecycle[-1] < 1e-5


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_few_steps(schedule: str, steps: int) -> None:
    rates = learning_rates(model_params(lr=1.0, schedule=schedule), steps)
    assert len(rates) == steps
    assert all(0 < rate <= 1 for rate in rates)


def test_averaged_weights(split: Split) -> None:
    """The average starts at the weights after the first step, and moves a tenth of the way with each other one."""
    plain = begin(split, "linear", epochs=1)
    average: list[Tensor] = []
    take_step = plain.step

    def step(*arguments: Any) -> Any:
        result = take_step(*arguments)
        now = weights_of(plain.model)
        average[:] = [torch.lerp(*pair, 0.1) for pair in zip(average, now, strict=True)] if average else now
        return result

    plain.step = step
    list(plain.run())
    averaged = begin(split, "linear", epochs=1, ema=0.9)
    (epoch,) = averaged.run()
    assert all(torch.allclose(*pair) for pair in zip(weights_of(averaged.model), average, strict=True))
    assert not same(weights_of(averaged.model), weights_of(plain.model))
    assert epoch.correct == accuracy(averaged.model, split)


@pytest.mark.parametrize(("keep", "epoch"), [("last", 2), ("best", 1)])
def test_epoch_that_is_kept(split: Split, keep: str, epoch: int) -> None:
    training = begin(split, "linear", epochs=2, keep=keep)
    training.epochs = epochs(5, 4)
    assert training.kept().epoch == epoch


def accuracy(model: nn.Module, split: Split) -> int:
    model.eval()
    return int((model(split.images_NCHW / 255).argmax(dim=1) == split.labels_N).sum())


def epochs(*correct: int) -> list[Epoch]:
    return [Epoch(number, 1.0, 50.0, 1.0, 50.0, each) for number, each in enumerate(correct, 1)]


@pytest.mark.parametrize(
    ("correct", "over"), [([], False), ([5], False), ([5, 4], False), ([5, 4, 5], True), ([5, 4, 6], False)]
)
def test_patience(split: Split, correct: list[int], over: bool) -> None:
    training = begin(split, "linear", epochs=9, patience=2)
    training.epochs = epochs(*correct)
    assert training.is_over() is over


def test_best_weights_are_kept(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    training = begin(split, "linear", epochs=3, keep="best")
    scores = iter([5, 9, 7])
    monkeypatch.setattr(training_module, "metrics_of", lambda *given: replace(metrics_of(*given), correct=next(scores)))
    seen = [weights_of(training.model) for _ in training.run()]
    assert training.kept().epoch == 2
    assert same(weights_of(training.model), seen[1])


def record_labels(training: Training) -> list[Tensor]:
    """Return a list to which each step of `training` adds the labels of its batch."""
    labels: list[Tensor] = []
    take_step = training.step

    def step(batch: Batch, size: int) -> tuple[Tensor, Tensor]:
        labels.append(batch.labels_B)
        return take_step(batch, size)

    training.step = step
    return labels


def test_order_of_the_batches_stays(split: Split) -> None:
    """What is varied at random is drawn by a generator of its own."""
    orders = []
    for augment in ([], ["flip", "shift", "erase"]):
        training = begin(split, "linear", epochs=1, augment=augment)
        labels = record_labels(training)
        list(training.run())
        orders.append(torch.cat(labels))
    assert torch.equal(*orders)


@pytest.fixture
def unfinished(workspace: Path) -> Unfinished:
    return Unfinished("model_0", {"seed": 42})


class Remembers(nn.Module):
    """Draws in training, has statistics, and a count that is in no state_dict."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 26 * 26, 10)
        )
        self.register_buffer("count", torch.zeros(()), persistent=False)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        if self.training:
            self.count += 0.01
        logits_NK: Tensor = self.layers(images_NCHW) * (1 + self.count)
        return logits_NK


@pytest.fixture(params=["tiny_vgg", "remembers"])
def fresh(request: pytest.FixtureRequest, split: Split) -> Any:
    """`fresh(...)` begins the training of a network with these hyperparameters."""

    def make(**changes: Any) -> Training:
        set_seeds(42)
        model = build_model("tiny_vgg", GREY_28, 4, 10) if request.param == "tiny_vgg" else Remembers()
        model = model.to(memory_format=torch.channels_last)
        set_seeds(42)
        return Training(model, model_params(**changes), split, split)

    return make


@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
def test_taken_up_again_after_any_epoch(fresh: Any, recipe: dict[str, Any], unfinished: Unfinished) -> None:
    undisturbed = fresh(epochs=4, **recipe)
    list(undisturbed.run())
    for left_after in (1, 2, 3):
        training = fresh(epochs=4, **recipe)
        for epoch in training.run():
            if epoch.epoch == left_after:
                unfinished.save(training, 1.5)
                break
        training = fresh(epochs=4, **recipe)
        assert unfinished.restore(training) == 1.5
        assert len(list(training.run())) == 4 - left_after
        assert training.epochs == undisturbed.epochs
        assert same(weights_of(training.model), weights_of(undisturbed.model))


COUNTS = """
import torch
from torch import nn

calls = 0

class Ours(nn.Module):
    calls = 0

    def __init__(self, input_shape, hidden_units, num_classes):
        super().__init__()
        self.calls, self.seen, self.noise = 0, [], torch.Generator()
        self.act, self.kind = lambda x: x, torch.float32
        self.rows = nn.LSTM(28, 2, batch_first=True)
        self.last = nn.Linear(28 * 2, num_classes)

    def forward(self, images):
        if self.training:
            global calls
            STATEMENT
        return self.last(self.act(self.rows(images[:, 0])[0].flatten(1)))

build = Ours
"""


@pytest.mark.parametrize(
    ("statement", "taken_up"),
    [
        ("self.calls += 1", False),
        ("self.seen.append(1)", False),
        ("Ours.calls += 1", False),
        ("calls += 1", False),
        ("torch.rand(1, generator=self.noise)", False),
        ("self.last.bias.requires_grad_(False)", False),
        ("self.kind = images.mean()", False),
        ("self.seen = (each for each in [])", False),
        ("images = images * 2", True),
    ],
)
def test_state_that_is_no_tensor(
    split: Split, unfinished: Unfinished, write_architecture: Any, statement: str, taken_up: bool
) -> None:
    """A training that nobody could bring back whole begins anew."""

    def begin_ours() -> Training:
        write_architecture(COUNTS.replace("STATEMENT", statement))
        return begin(split, "ours", epochs=2)

    training = begin_ours()
    next(training.run())
    unfinished.save(training, 1.0)
    assert (unfinished.restore(begin_ours()) > 0) == taken_up


def test_another_training_is_not_taken_up(split: Split, unfinished: Unfinished) -> None:
    training = begin(split, "linear")
    next(training.run())
    unfinished.save(training, 1.0)
    other = begin(split, "linear")
    assert Unfinished("model_0", {"seed": 43}).restore(other) == 0
    assert other.epochs == []


def test_damaged_file_counts_for_nothing(split: Split, unfinished: Unfinished) -> None:
    training = begin(split, "linear")
    next(training.run())
    unfinished.save(training, 1.0)
    unfinished.path.write_bytes(unfinished.path.read_bytes()[:-100])
    other = begin(split, "linear")
    assert unfinished.restore(other) == 0
    assert other.epochs == []


@pytest.mark.parametrize("recipe", RECIPES[1:], ids=NAMES[1:])
@pytest.mark.parametrize("steps_before", [0, 3])
def test_optimizer_forgets_the_steps_of_a_capture(split: Split, recipe: dict[str, Any], steps_before: int) -> None:
    """The steps that warm up a capture leave no momentum behind."""
    model = build_model("linear", GREY_28, 10, 10)
    optimizer = make_optimizer(list(model.parameters()), model_params(**recipe), 20)

    def take(steps: int) -> None:
        for number, batch in zip(range(steps), make_loader(split, 32), strict=False):
            optimizer.start_step(number)
            cross_entropy(model(batch.images_BCHW), batch.labels_B).backward()
            optimizer.update()

    take(steps_before)
    before = {name: values.clone() for name, values in optimizer.state().items()}
    with forgetting_steps(optimizer):
        take(2)
    for name, values in optimizer.state().items():
        assert torch.equal(values, before.get(name, torch.zeros_like(values)))
