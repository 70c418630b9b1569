"""A model file is all that is needed to have the model again."""

import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from stages.lib.learning.models import build_model
from stages.lib.learning.models import Checkpoint, load_checkpoint, save_checkpoint
from stages.lib.learning.devices import place
from stages.lib.base.errors import UserError
from stages.lib.source.fashion_mnist import CLASS_NAMES
from stages.lib.base.params import ModelParams
from stages.lib.base.tensors import load_tensors, save_tensors

ROOT = Path(__file__).parents[2]
ARCHITECTURES = ["linear", "mlp", "tiny_vgg"]


def settings(arch: str, hidden_units: int = 10, memory_format: str = "contiguous") -> ModelParams:
    return ModelParams(arch, hidden_units, epochs=3, batch_size=32, lr=0.1, memory_format=memory_format)


def build(arch: str, hidden_units: int = 10) -> nn.Module:
    torch.manual_seed(1)
    return build_model(arch, hidden_units, len(CLASS_NAMES))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model_0.safetensors"
    save_checkpoint(path, build("linear"), "model_0", settings("linear"), CLASS_NAMES)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert "\n" not in message
    return message.removeprefix(f"{path} ")


def change(path: Path, alter: Callable[[dict[str, Any], dict[str, Any]], Any]) -> Path:
    """Write the model file again after `alter(weights, about)`."""
    weights, about = load_tensors(path)
    alter(weights, about)
    save_tensors(path, weights, about)
    return path


def most_memory_taken() -> int:
    """The most bytes that this process has held at one time."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@pytest.mark.parametrize("hidden_units", [3, 10])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_model_comes_back_with_every_weight_and_gives_the_same_logits(
    tmp_path: Path, arch: str, hidden_units: int
) -> None:
    model = build(arch, hidden_units)
    path = tmp_path / "model_5.safetensors"
    save_checkpoint(path, model, "model_5", settings(arch, hidden_units), CLASS_NAMES)
    loaded = load_checkpoint(path)
    assert (loaded.name, loaded.arch, loaded.class_names) == ("model_5", arch, CLASS_NAMES)
    assert type(loaded.model) is type(model)
    assert not loaded.model.training
    images_N1HW = torch.rand(7, 1, 28, 28)
    assert torch.equal(loaded.model(images_N1HW), model.eval()(images_N1HW))


class TwoLayersOneWeight(nn.Module):
    """Two layers that share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight


def test_weights_that_layers_share_are_saved_for_each(tmp_path: Path) -> None:
    model = TwoLayersOneWeight()
    save_checkpoint(tmp_path / "model_0.safetensors", model, "model_0", settings("shared"), CLASS_NAMES)
    weights, _ = load_tensors(tmp_path / "model_0.safetensors")
    assert torch.equal(weights["first.weight"], model.first.weight)
    assert torch.equal(weights["second.weight"], model.first.weight)


def test_an_architecture_that_imports_what_is_not_there_is_not_said_to_be_missing(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stages.architectures.linear", None)
    with pytest.raises(UserError, match=r"^stages/architectures/linear\.py: ModuleNotFoundError: "):
        load_checkpoint(saved)


def test_other_classes_come_back_too(tmp_path: Path) -> None:
    names = ("cat", "dog", "chicken")
    path = tmp_path / "pets.safetensors"
    save_checkpoint(path, build_model("mlp", 4, 3), "model_0", settings("mlp", 4), names)
    loaded = load_checkpoint(path)
    assert loaded.class_names == names
    assert loaded.model(torch.zeros(1, 1, 28, 28)).shape == (1, 3)


def test_the_global_generator_decides_nothing_about_a_loaded_model(saved: Path) -> None:
    torch.manual_seed(1)
    first = load_checkpoint(saved).model.state_dict()
    torch.manual_seed(2)
    second = load_checkpoint(saved).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_channels_last_model_saves_the_same_bytes_as_a_contiguous_one(tmp_path: Path) -> None:
    files = []
    for memory_format in ("contiguous", "channels_last"):
        model = place(build("tiny_vgg"), torch.device("cpu"), memory_format)
        files.append(tmp_path / f"{memory_format}.safetensors")
        # The settings are told alike: they are part of the file, the layout in memory is not.
        save_checkpoint(files[-1], model, "model_2", settings("tiny_vgg"), CLASS_NAMES)
    first, second = (file.read_bytes() for file in files)
    assert first == second


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_saving_what_was_loaded_gives_the_same_bytes(tmp_path: Path, arch: str) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    params = settings(arch, memory_format="channels_last")
    save_checkpoint(first, build(arch), "model_1", params, CLASS_NAMES)
    loaded = load_checkpoint(first)
    assert loaded.memory_format == "channels_last"
    save_checkpoint(second, loaded.model, loaded.name, params, loaded.class_names)
    assert first.read_bytes() == second.read_bytes()


def test_loading_a_model_does_not_import_what_traces_and_compiles(tmp_path: Path) -> None:
    path = tmp_path / "model_2.safetensors"
    save_checkpoint(path, build("tiny_vgg"), "model_2", settings("tiny_vgg"), CLASS_NAMES)
    load = f"from stages.lib.learning.models import load_checkpoint; load_checkpoint({str(path)!r})"
    code = f"import sys; {load}; print('sympy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n", "that takes a second and more"


def test_a_missing_model_says_how_to_make_it(tmp_path: Path) -> None:
    assert refusal(tmp_path / "model_9.safetensors") == "is missing; run `dvc repro` to make it"


class Hostile:
    """Unpickled, it makes a file."""

    def __init__(self, owned: Path) -> None:
        self.owned = owned

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.owned,)


@pytest.mark.parametrize("kind", ["pickle", "torch.save"])
def test_a_pickle_given_as_a_model_is_refused_and_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model_0.safetensors"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Hostile(tmp_path / "owned")))
    else:
        torch.save({"weights": Hostile(tmp_path / "owned")}, path)
    assert "no safetensors file of ours" in refusal(path)
    assert not (tmp_path / "owned").exists()


def test_weights_without_our_description_are_refused(tmp_path: Path) -> None:
    save_file(build("linear").state_dict(), tmp_path / "model_0.safetensors")
    assert "no safetensors file of ours" in refusal(tmp_path / "model_0.safetensors")


def test_prepared_images_given_as_a_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model_0.safetensors"
    save_tensors(path, {"images": torch.zeros(3)}, {"class_names": list(CLASS_NAMES), "source": "synthetic"})
    assert refusal(path) == "holds no model; run `dvc repro` to train it again"


@pytest.mark.parametrize("key", ["name", "arch", "hidden_units", "memory_format", "class_names"])
def test_a_description_that_lacks_something_is_refused(saved: Path, key: str) -> None:
    assert "holds no model" in refusal(change(saved, lambda _, about: about.pop(key)))


@pytest.mark.parametrize("arch", ["mlp", "tiny_vgg"])
def test_the_description_of_another_architecture_is_refused(saved: Path, arch: str) -> None:
    if arch == "mlp":  # of the same shapes as linear, other layer numbers
        assert build("mlp").state_dict().keys() != build("linear").state_dict().keys()
    message = refusal(change(saved, lambda _, about: about.update(arch=arch)))
    assert message == f"does not fit stages/architectures/{arch}.py; train it again"


@pytest.mark.parametrize(
    "arch",
    ["", ".", "..", "resnet", "os", "__init__", "linear.LinearBaseline", "../lib/params", "a\0b", 5, None, ["a"]],
)
def test_an_architecture_that_is_no_file_of_ours_is_refused(saved: Path, arch: object) -> None:
    refusal(change(saved, lambda _, about: about.update(arch=arch)))


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_units": 11},
        {"hidden_units": 0},
        {"hidden_units": -1},
        {"hidden_units": "10"},
        {"hidden_units": 10.0},
        {"hidden_units": None},
        {"hidden_units": 10**30},
        {"class_names": list(CLASS_NAMES[:9])},
        {"class_names": []},
        {"class_names": 10},
        {"class_names": None},
    ],
    ids=str,
)
def test_weights_of_another_shape_than_described_are_refused(saved: Path, changes: dict[str, Any]) -> None:
    refusal(change(saved, lambda _, about: about.update(changes)))


def test_a_description_that_asks_for_much_memory_is_refused_without_taking_it(saved: Path) -> None:
    change(saved, lambda _, about: about.update(hidden_units=200_000))  # 600 MB of weights
    before = most_memory_taken()
    assert "does not fit" in refusal(saved)
    assert most_memory_taken() - before < 100e6


@pytest.mark.parametrize(
    "alter",
    [
        lambda weights, _: weights.pop("layers.1.weight"),
        lambda weights, _: weights.update(extra=torch.zeros(2)),
        lambda weights, _: weights.update({"layers.1.weight": torch.zeros(784, 10)}),
        lambda weights, _: weights.update({"layers.1.bias": torch.zeros(())}),
    ],
    ids=["one-missing", "one-too-many", "transposed", "no-dimensions"],
)
def test_other_weights_than_the_architecture_has_are_refused(saved: Path, alter: Callable[..., Any]) -> None:
    message = refusal(change(saved, alter))
    assert message == "does not fit stages/architectures/linear.py; train it again"


@given(data=st.data())
def test_a_damaged_model_is_refused_by_name_or_is_still_a_model(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged_model.safetensors"
    save_checkpoint(path, build("linear", 2), "model_0", settings("linear", 2), CLASS_NAMES)
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for place_ in data.draw(st.lists(st.integers(0, header + 50), min_size=1, max_size=3)):
            content[place_] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        loaded = load_checkpoint(path)
    except UserError as error:
        message = str(error)
        assert message.startswith(f"{path} ")
        assert "\n" not in message
    else:  # a weight or a class name may have changed: DVC's own sums find that
        assert isinstance(loaded, Checkpoint)
        assert loaded.model(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
