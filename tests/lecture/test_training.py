"""The lecture's steps beside the pipeline's training, and with another loss, optimizer and accuracy."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from stages.lecture import training
from stages.lecture.datasets import FashionMNIST
from stages.lecture.helper_functions import accuracy_fn
from stages.lecture.models import FashionMNISTModelV0, FashionMNISTModelV1, FashionMNISTModelV2
from stages.lib.data.datasets import load_split, make_loader
from stages.lib.learning.models import build_model
from stages.lib.learning.training import Training
from tests.helpers import GREY_28, model_params

MODELS = {"linear": FashionMNISTModelV0, "mlp": FashionMNISTModelV1, "tiny_vgg": FashionMNISTModelV2}
Loaders = tuple[DataLoader[tuple[Tensor, int]], DataLoader[tuple[Tensor, int]]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Both sides add up in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def loaders(prepared: Path) -> Loaders:
    """The lecture's two loaders."""
    train, test = FashionMNIST(train=True), FashionMNIST(train=False)
    return DataLoader(train, batch_size=32, shuffle=True), DataLoader(test, batch_size=32)


def model_0() -> FashionMNISTModelV0:
    torch.manual_seed(42)
    return FashionMNISTModelV0(784, 10, 10)


@pytest.mark.parametrize("arch", MODELS)
def test_figures_and_weights_of_the_pipeline(loaders: Loaders, arch: str) -> None:
    train, test = load_split("data/prepared/train.safetensors"), load_split("data/prepared/test.safetensors")
    torch.manual_seed(42)
    ours = build_model(arch, GREY_28, 10, 10)
    torch.manual_seed(42)
    epochs = list(Training(ours, model_params(arch, epochs=2), train, test).run())

    torch.manual_seed(42)
    model = MODELS[arch](1 if arch == "tiny_vgg" else 784, 10, 10)
    loss_fn, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(42)
    for epoch in epochs:
        trained = training.train_step(model, loaders[0], loss_fn, optimizer, accuracy_fn)
        tested = training.test_step(loaders[1], model, loss_fn, accuracy_fn)
        assert (*trained, *tested) == (epoch.train_loss, epoch.train_acc, epoch.test_loss, epoch.test_acc)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), ours.parameters(), strict=True))

    results = training.eval_model(model=model, data_loader=loaders[1], loss_fn=loss_fn, accuracy_fn=accuracy_fn)
    last = epochs[-1]
    assert results == {
        "model_name": MODELS[arch].__name__,
        "model_loss": last.test_loss,
        "model_acc": last.test_acc,
    }


def test_printed_lines(loaders: Loaders, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_0()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    training.train_step(model, loaders[0], nn.CrossEntropyLoss(), optimizer, accuracy_fn, report_every=4)
    training.test_step(loaders[1], model, nn.CrossEntropyLoss(), accuracy_fn)
    *seen, trained, tested = capsys.readouterr().out.rstrip("\n").splitlines()
    assert seen == ["Looked at 0/330 samples", "Looked at 128/330 samples", "Looked at 256/330 samples"]
    assert re.fullmatch(r"Train loss: \d\.\d{5} \| Train accuracy: \d+\.\d\d%", trained)
    assert re.fullmatch(r"Test loss: \d\.\d{5} \| Test accuracy: \d+\.\d\d%", tested)


def test_own_loss_optimizer_and_accuracy(loaders: Loaders) -> None:
    model = model_0()
    loss_fn = nn.MultiMarginLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def share_correct(y_true: Tensor, y_pred: Tensor) -> float:
        return (y_true == y_pred).float().mean().item()

    losses = [training.train_step(model, loaders[0], loss_fn, optimizer, share_correct)[0] for _ in range(8)]
    assert losses[-1] < losses[0] / 2
    assert 0.5 < training.eval_model(model, loaders[1], loss_fn, share_correct)["model_acc"] <= 1


def test_batches_of_the_pipelines_loader(prepared: Path) -> None:
    loader = make_loader(load_split("data/prepared/test.safetensors"), 32)
    results = training.eval_model(model_0(), loader, nn.CrossEntropyLoss(), accuracy_fn)
    assert results["model_loss"] == pytest.approx(2.3, abs=0.3)


def test_training_mode_in_every_epoch(loaders: Loaders) -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10))
    optimizer, loss_fn = torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss()
    for epoch in (1, 2):
        training.train_step(model, loaders[0], loss_fn, optimizer, accuracy_fn)
        training.test_step(loaders[1], model, loss_fn, accuracy_fn)
        assert model[1].num_batches_tracked == epoch * len(loaders[0])


def test_moved_to_the_device(loaders: Loaders) -> None:
    model = model_0().to("cpu")
    results = training.eval_model(model, loaders[1], nn.CrossEntropyLoss(), accuracy_fn, device="cpu")
    assert results == training.eval_model(model, loaders[1], nn.CrossEntropyLoss(), accuracy_fn)


def test_predictions(loaders: Loaders) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(784, 10))
    data = FashionMNIST(train=False)
    images = [data[index][0] for index in range(5)]
    probabilities = training.make_predictions(model=model, data=images)
    assert probabilities.shape == (5, 10)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(5))
    torch.testing.assert_close(probabilities, training.make_predictions(model, torch.stack(images)))
