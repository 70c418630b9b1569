"""Models: built from an architecture's file, saved, and loaded from their own file alone."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stages.lib.base.errors import UserError
from stages.lib.base.tensors import load_tensors, save_tensors
from stages.lib.learning import models
from stages.lib.learning.devices import place
from stages.lib.learning.models import (
    Checkpoint,
    build_model,
    load_checkpoint,
    refuse_project_imports,
    save_checkpoint,
)
from stages.lib.source.idx_sets import CLASS_NAMES
from tests.helpers import GREY_28, PROJECT, model_params, no_images, refusal

ARCHITECTURES = ["linear", "mlp", "tiny_vgg"]
MODEL = "nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Dropout(), nn.Linear(784, num_classes))"


SETTINGS = """
from torch import nn


def build(input_shape, hidden_units, num_classes, depth: int = 1, bias: bool = True):
    layers = [nn.Linear(784, 784, bias) for _ in range(depth)]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(784, num_classes, bias))
"""


# --- building ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def build_from(write_architecture: Callable[[str], None]) -> Callable[[str], nn.Module]:
    """`build_from(code)` builds the model for seven classes of an architecture with this code."""

    def build(code: str) -> nn.Module:
        write_architecture(code)
        return build_model("ours", GREY_28, 10, 7)

    return build


def building(body: str) -> str:
    return f"from torch import nn\n\n\ndef build(input_shape, hidden_units, num_classes):\n    {body}\n"


def test_model_is_ready_to_train(build_from: Callable[[str], nn.Module]) -> None:
    model = build_from(building(f"return {MODEL}"))
    assert model.training
    assert model(torch.zeros(5, 1, 28, 28)).shape == (5, 7)


@pytest.mark.parametrize(
    "layers",
    [
        "nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(784, 10)",
        "nn.Flatten(), nn.Softmax(0), nn.Linear(784, 10)",
    ],
)
def test_images_of_a_batch_are_mixed(write_architecture: Callable[[str], None], layers: str) -> None:
    write_architecture(building(f"return nn.Sequential({layers})"))
    assert "depend on the others in its batch" in refusal(build_model, "ours", GREY_28, 10, 10)


def test_settings_reach_the_architecture(write_architecture: Callable[[str], None]) -> None:
    write_architecture(SETTINGS)
    model = build_model("ours", GREY_28, 10, 7, {"depth": 3, "bias": False})
    assert len(list(model.parameters())) == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"width": 3}, "width"), ({"depth": "3"}, "depth"), ({"hidden_units": 3}, "hidden_units"), ({"bias": 1}, "bias")],
)
def test_wrong_settings(write_architecture: Callable[[str], None], settings: dict[str, Any], words: str) -> None:
    write_architecture(SETTINGS)
    line = refusal(build_model, "ours", GREY_28, 10, 7, settings)
    assert words in line
    assert "ours.py" in line


@pytest.mark.parametrize("settings", [{"kernel_size": 99}, {"padding": -1}])
def test_settings_that_cannot_be_built(settings: dict[str, Any]) -> None:
    assert str(settings) in refusal(build_model, "tiny_vgg", GREY_28, 10, 10, settings)


def test_checking_a_model_changes_nothing(
    build_from: Callable[[str], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(42)
        model = build_from(building(f"return {MODEL}"))
        states.append([*model.state_dict().values(), torch.get_rng_state()])
        monkeypatch.setattr(models, "_find_problem", lambda *_: None)
    assert all(torch.equal(*pair) for pair in zip(*states, strict=True))


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("def build(:\n", SyntaxError, "ours.py, line 1"),
        ("import no_such_package\n", ModuleNotFoundError, "no_such_package"),
        ("", AttributeError, "build"),
        ("build = 3\n", TypeError, "not callable"),
        ("def build():\n    pass\n", TypeError, "3 were given"),
        (building("raise ValueError('too\\nsmall')"), ValueError, "too\nsmall"),
        (building("return " + MODEL.replace("Linear(784", "Linear(100")), RuntimeError, "1x784 and 100x7"),
    ],
    ids=["syntax", "import", "no-build", "no-function", "no-arguments", "raises", "wrong-input"],
)
def test_error_of_an_architecture_passes(
    build_from: Callable[[str], nn.Module], code: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)) as caught:
        build_from(code)
    assert caught.type is error  # and no UserError, which shows no traceback


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return None", "NoneType"),
        ("return nn.Flatten()", "no weights"),
        (f"return {MODEL.replace('num_classes', '13')}", "[1, 13], not logits float32 [1, 7]"),
        ("return nn.Sequential(nn.Flatten(), nn.GRU(784, 7))", "tuple"),
    ],
)
def test_what_is_no_model(build_from: Callable[[str], nn.Module], body: str, problem: str) -> None:
    message = refusal(build_from, building(body))
    assert message.startswith("stages/architectures/ours.py: ")
    assert problem in message


@pytest.mark.parametrize(
    ("statement", "imported"),
    [
        ("import stages.lib.plots", "stages.lib.plots"),
        ("import torch, stages", "stages"),
        ("from stages.lib import plots", "stages.lib"),
        ("from stages.architectures.linear import LinearBaseline", "stages.architectures.linear"),
        ("from .linear import LinearBaseline", ".linear"),
        ("from . import linear", "."),
        ("from ..lib import plots", "..lib"),
        ("import tests", "tests"),
        ("def build(*_):\n    import tests.helpers as ours", "tests.helpers"),
    ],
)
def test_project_import_is_refused(tmp_path: Path, statement: str, imported: str) -> None:
    file = tmp_path / "ours.py"
    file.write_text(f"import torch\n{statement}\n")
    line = 1 + len(statement.splitlines())
    message = refusal(refuse_project_imports, file)
    assert message.startswith(f"stages/architectures/ours.py, line {line}: ")
    assert f"imports {imported}, " in message


def test_refused_before_it_runs(build_from: Callable[[str], nn.Module]) -> None:
    assert "line 2" in refusal(build_from, "raise AssertionError\nfrom .linear import build\n")


@pytest.mark.parametrize(
    "statement",
    [
        "importlib.import_module('stages.architectures.' + 'mlp')",
        "__import__('stages.architectures.mlp')",
        "sys.path.append(__file__.removesuffix('ours.py')); importlib.import_module('mlp')",
    ],
)
def test_unwritten_import_is_refused(
    build_from: Callable[[str], nn.Module], monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    for module in ("mlp", "stages.architectures.mlp"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    code = "import importlib, sys\n" + building(f"{statement}; return {MODEL}")
    assert "imports stages/architectures/mlp.py, " in refusal(build_from, code)


def test_other_imports_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "ours.py"
    file.write_text(
        "import math\nimport torch.nn.functional as F\nfrom torch import nn\nfrom torchvision import models\n"
    )
    refuse_project_imports(file)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_own_architectures_import_no_other_file(arch: str) -> None:
    refuse_project_imports(PROJECT / f"stages/architectures/{arch}.py")


# --- saving and loading -----------------------------------------------------------------------------------------------


def build(arch: str, hidden_units: int = 10) -> nn.Module:
    torch.manual_seed(1)
    return build_model(arch, GREY_28, hidden_units, len(CLASS_NAMES))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model_0.safetensors"
    save_checkpoint(path, build("linear"), "model_0", model_params(), no_images())
    return path


def check_refused(path: Path, problem: str = "") -> None:
    assert refusal(load_checkpoint, path).startswith(f"{path} {problem}")


def change(path: Path, alter: Callable[[dict[str, Any], dict[str, Any]], Any]) -> Path:
    """Write the model file again after `alter(weights, about)`."""
    weights, about = load_tensors(path)
    alter(weights, about)
    save_tensors(path, weights, about)
    return path


@pytest.mark.parametrize("hidden_units", [3, 10])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_model_comes_back(tmp_path: Path, arch: str, hidden_units: int) -> None:
    model = build(arch, hidden_units)
    path = tmp_path / "model_5.safetensors"
    save_checkpoint(path, model, "model_5", model_params(arch, hidden_units=hidden_units), no_images())
    loaded = load_checkpoint(path)
    assert (loaded.name, loaded.arch, loaded.class_names) == ("model_5", arch, CLASS_NAMES)
    assert type(loaded.model) is type(model)
    assert not loaded.model.training
    images_NCHW = torch.rand(7, 1, 28, 28)
    assert torch.equal(loaded.model(images_NCHW), model.eval()(images_NCHW))


def test_settings_come_back(tmp_path: Path) -> None:
    params = model_params("tiny_vgg", settings={"kernel_size": 5, "pooling": "avg"})
    model = build_model("tiny_vgg", GREY_28, 10, len(CLASS_NAMES), params.settings)
    save_checkpoint(tmp_path / "model_2.safetensors", model, "model_2", params, no_images())
    loaded = load_checkpoint(tmp_path / "model_2.safetensors")
    images_NCHW = torch.rand(7, 1, 28, 28)
    assert torch.equal(loaded.model(images_NCHW), model.eval()(images_NCHW))


def test_default_settings_change_no_byte(tmp_path: Path) -> None:
    for number, settings in enumerate(({}, {"kernel_size": 3, "padding": 1, "pooling": "max"})):
        params = model_params("tiny_vgg", settings=settings)
        save_checkpoint(tmp_path / f"{number}.safetensors", build("tiny_vgg"), "model_2", params, no_images())
    assert (tmp_path / "0.safetensors").read_bytes() == (tmp_path / "1.safetensors").read_bytes()


@pytest.mark.parametrize("settings", [None, 3, ["pooling"]])
def test_model_file_with_odd_settings(saved: Path, settings: Any) -> None:
    check_refused(change(saved, lambda _, about: about.update(settings=settings)))


class TwoLayersOneWeight(nn.Module):
    """Two layers that share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight


def test_shared_weights_are_saved_for_each_layer(tmp_path: Path) -> None:
    model = TwoLayersOneWeight()
    save_checkpoint(tmp_path / "model_0.safetensors", model, "model_0", model_params(), no_images())
    weights, _ = load_tensors(tmp_path / "model_0.safetensors")
    assert torch.equal(weights["first.weight"], model.first.weight)
    assert torch.equal(weights["second.weight"], model.first.weight)


def test_other_classes(tmp_path: Path) -> None:
    names = ("cat", "dog", "chicken")
    path = tmp_path / "pets.safetensors"
    save_checkpoint(
        path, build_model("mlp", GREY_28, 4, 3), "model_0", model_params("mlp", hidden_units=4), no_images(names)
    )
    loaded = load_checkpoint(path)
    assert loaded.class_names == names
    assert loaded.model(torch.zeros(1, 1, 28, 28)).shape == (1, 3)


def test_images_that_it_knows_come_back(tmp_path: Path) -> None:
    train = replace(no_images(shape=(3, 8, 6)), source="images", data_set="pets", brought={"image_size": 8})
    model = build_model("tiny_vgg", train.image_shape, 2, len(train.class_names))
    save_checkpoint(tmp_path / "pets", model, "model_0", model_params("tiny_vgg", hidden_units=2), train)
    loaded = load_checkpoint(tmp_path / "pets")
    assert (loaded.input_shape, loaded.source, loaded.data_set) == ((3, 8, 6), "images", "pets")
    assert loaded.brought == {"image_size": 8}
    assert loaded.model(torch.zeros(2, 3, 8, 6)).shape == (2, 10)


def test_loaded_weights_need_no_seed(saved: Path) -> None:
    first, second = (load_checkpoint(saved).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_memory_format_changes_no_byte(tmp_path: Path) -> None:
    contents = set()
    for memory_format in ("contiguous", "channels_last"):
        model = place(build("tiny_vgg"), torch.device("cpu"), memory_format)
        # The same parameters for both: they are part of the file, the layout in memory is not.
        save_checkpoint(tmp_path / memory_format, model, "model_2", model_params("tiny_vgg"), no_images())
        contents.add((tmp_path / memory_format).read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_saved_again_with_the_same_bytes(tmp_path: Path, arch: str) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    params = model_params(arch, memory_format="channels_last")
    save_checkpoint(first, build(arch), "model_1", params, no_images())
    loaded = load_checkpoint(first)
    assert loaded.memory_format == "channels_last"
    save_checkpoint(second, loaded.model, loaded.name, params, no_images())
    assert first.read_bytes() == second.read_bytes()


def test_loading_does_not_import_the_compiler(tmp_path: Path) -> None:
    path = tmp_path / "model_2.safetensors"
    save_checkpoint(path, build("tiny_vgg"), "model_2", model_params("tiny_vgg"), no_images())
    load = f"from stages.lib.learning.models import load_checkpoint; load_checkpoint({str(path)!r})"
    code = f"import sys; {load}; print('sympy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n", "that takes a second and more"


def test_missing_model(tmp_path: Path) -> None:
    check_refused(tmp_path / "model_9.safetensors", "is missing")


def test_images_in_place_of_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model_0.safetensors"
    save_tensors(path, {"images": torch.zeros(3)}, {"class_names": list(CLASS_NAMES), "source": "synthetic"})
    check_refused(path, "holds no model")


@pytest.mark.parametrize("key", ["name", "arch", "input_shape", "hidden_units", "class_names", "data_set", "brought"])
def test_incomplete_metadata(saved: Path, key: str) -> None:
    check_refused(change(saved, lambda _, about: about.pop(key)), "holds no model")


@pytest.mark.parametrize("arch", ["mlp", "tiny_vgg"])
def test_another_architecture(saved: Path, arch: str) -> None:
    # The layers of mlp have the shapes of those of linear, under other names.
    check_refused(change(saved, lambda _, about: about.update(arch=arch)), f"does not fit stages/architectures/{arch}")


@pytest.mark.parametrize(
    "arch",
    ["", ".", "..", "no_such", "os", "__init__", "linear.LinearBaseline", "../lib/params", "a\0b", 5, None, ["a"]],
)
def test_unknown_architecture(saved: Path, arch: object) -> None:
    check_refused(change(saved, lambda _, about: about.update(arch=arch)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            ("hidden_units", value) for value in (11, 0, -1, "10", 10.0, None, True, 4097, 10**30)
        ),  # 4097: too much memory
        *(
            ("input_shape", value)
            for value in ([1, 28], [1, 28, 28, 1], [1, 28, 27], [0, 28, 28], [True, 28, 28], None)
        ),
        ("input_shape", [3, 10**6, 10**6]),
        *(("class_names", value) for value in ([*CLASS_NAMES[:9]], 10, None, [*range(10)])),
    ],
)
def test_metadata_that_does_not_fit(saved: Path, key: str, value: object) -> None:
    check_refused(change(saved, lambda _, about: about.update({key: value})))


def test_weights_of_another_type(saved: Path) -> None:
    def round_off(weights: dict[str, Any], _: object) -> None:
        weights["layers.1.weight"] = weights["layers.1.weight"].bool()

    check_refused(change(saved, round_off))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_model_without_classes(tmp_path: Path) -> None:
    save_checkpoint(
        tmp_path / "model_0.safetensors",
        build_model("linear", GREY_28, 10, 0),
        "model_0",
        model_params(),
        no_images(()),
    )
    check_refused(tmp_path / "model_0.safetensors", "holds no model")


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
def test_other_weights(saved: Path, alter: Callable[..., Any]) -> None:
    check_refused(change(saved, alter), "does not fit stages/architectures/linear.py")


@given(data=st.data())
def test_damage(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged_model.safetensors"
    save_checkpoint(path, build("linear", 2), "model_0", model_params(hidden_units=2), no_images())
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
    else:  # a weight or a class name may have changed: DVC's own checksums find that
        assert isinstance(loaded, Checkpoint)
        assert loaded.model(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
