"""The page that looks inside a model: true to PyTorch in every number, and usable without a mouse and a network."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

from stages.commands import explain
from stages.lib.base.tensors import load_tensors, save_tensors
from stages.lib.data.datasets import load_split
from stages.lib.learning.devices import set_seeds
from stages.lib.learning.feature_maps import record_outputs
from stages.lib.learning.models import build_model, save_checkpoint
from stages.lib.photos import read_garment
from stages.lib.source.idx_sets import CLASS_NAMES
from tests.browser import browse, needs_chromium, probe_pages
from tests.helpers import GREY_28, MakeSplit, RunStage, SetParams, StageRefusal, lock_training, model_params, no_images

HOSTILE = "<b>shirt & </script>.png"
HIDDEN_UNITS = 3


class Functional(nn.Module):
    """Functions between its layers, and a layer that does nothing after training."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 5)
        self.drop = nn.Dropout(0.5)
        self.hidden = nn.Linear(4 * 12 * 12, 10)
        self.out = nn.Linear(10, 10)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps = functional.max_pool2d(functional.relu(self.conv(images_NCHW)), 2)
        hidden = self.drop(torch.relu(self.hidden(torch.flatten(maps, 1))))
        logits_NK: Tensor = self.out(hidden)
        return logits_NK


class Residual(nn.Module):
    """A sum goes past a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.out = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NK: Tensor = self.out(images_NCHW + self.conv(images_NCHW))
        return logits_NK


class Relu6(Residual):
    """A function that looks like a ReLU where no value is above 6."""

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NK: Tensor = self.out(functional.relu6(self.conv(images_NCHW)))
        return logits_NK


class TwoCalls(nn.Module):
    """Calls one ReLU twice, as many tutorials do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(784, 20), nn.Linear(20, 10), nn.ReLU()

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NK: Tensor = self.relu(self.second(self.relu(self.first(images_NCHW.flatten(1)))))
        return logits_NK


def unusual() -> nn.Module:
    """Return layers with every setting that is seldom used."""
    return nn.Sequential(
        nn.Conv2d(1, 4, (5, 3), stride=(2, 1), padding=(1, 0), bias=False),
        nn.AvgPool2d(3, 2, padding=1, ceil_mode=True),
        nn.Conv2d(4, 8, 2, padding="same", groups=2, dilation=2),
        nn.ReLU(),
        nn.AvgPool2d((2, 3), 1, padding=(0, 1), count_include_pad=False),
        nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
        nn.Conv2d(8, 5, 1, padding="valid"),
        nn.AvgPool2d(2, divisor_override=3),
        nn.Flatten(),
        nn.ReLU(),
        nn.Linear(5 * 2 * 4, 20, bias=False),
        nn.Linear(20, 10),
    )


# What the page can compute; each with weights of its own.
KNOWN: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: build_model("linear", GREY_28, HIDDEN_UNITS, 10),
    "mlp": lambda: build_model("mlp", GREY_28, HIDDEN_UNITS, 10),
    "tiny_vgg": lambda: build_model("tiny_vgg", GREY_28, HIDDEN_UNITS, 10),
    "functional": Functional,
    "two calls": TwoCalls,
    "unusual": unusual,
}


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return make().eval()


@pytest.fixture
def pixels(make_split: MakeSplit) -> Tensor:
    return make_split(4).images_NCHW


def data_of(model: nn.Module, pixels: Tensor) -> dict[str, Any]:
    """Return the data of a page for a model that is in no file; its weights before training are those after it."""
    images = [
        {"group": "classes", "name": f"test image {n}", "label": n, "pixels": pixels} for n, pixels in enumerate(pixels)
    ]
    about = {"model": "model_9", "architecture": "Own", "classes": list(CLASS_NAMES), "source": "synthetic"}
    return {**about, "seed": 42, "seed_recorded": True, "accuracy": 12.5, **explain.look_inside(model, model, images)}


def reason(model: nn.Module, pixels: Tensor) -> str:
    return str(data_of(model, pixels)["reason"])


def flat(*layers: nn.Module) -> nn.Module:
    """Return the layers with a linear classifier of 784 inputs behind them."""
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(784, 10))


def flat_colour(*layers: nn.Module) -> nn.Module:
    """Return the layers with a linear classifier of colour images of 12 x 20 behind them."""
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3 * 12 * 20, 10))


def data_in(html: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert match
    data: dict[str, Any] = json.loads(match[1])
    return data


def decoded(text: str, kind: str = "<f4") -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), kind)


@pytest.fixture
def trained(prepared: Path) -> Path:
    """The workspace with a model_2, which is the best as well."""
    model = seeded(KNOWN["tiny_vgg"])
    for path in ("models/model_2.safetensors", "models/best.safetensors"):
        params = model_params("tiny_vgg", hidden_units=HIDDEN_UNITS)
        save_checkpoint(prepared / path, model, "model_2", params, no_images())
    return prepared


@pytest.fixture
def page(trained: Path, run_stage: RunStage) -> Callable[..., str]:
    """`page("--image", "shirt.png")` writes the page and gives its HTML."""

    def write(*arguments: str) -> str:
        done = run_stage("commands.explain", *arguments)
        assert done.returncode == 0, done.stderr
        return (trained / "explain.html").read_text(encoding="utf-8")

    return write


@pytest.fixture
def photo(trained: Path) -> Path:
    """A dark shirt on white in a file with a name that nobody should have."""
    picture = Image.new("RGB", (90, 110), "white")
    ImageDraw.Draw(picture).polygon([(30, 10), (60, 10), (80, 30), (60, 40), (60, 100), (30, 100), (10, 30)], "navy")
    path = trained / HOSTILE.replace("/", "")
    picture.save(path)
    return path


Page = Callable[..., str]


# Which images, which weights


def test_one_image_of_each_class(trained: Path, page: Page) -> None:
    test = load_split(trained / "data/prepared/test.safetensors")
    images = [image for image in data_in(page())["images"] if image["group"] == "classes"]
    assert [image["label"] for image in images] == list(range(10))
    for image in images:
        expected = test.images_NCHW[int(image["name"].split()[-1])].flatten()
        assert decoded(image["pixels"], "u1").tolist() == expected.tolist()


def test_most_confident_mistakes(trained: Path, page: Page) -> None:
    test = load_split(trained / "data/prepared/test.safetensors")
    probabilities_NK = seeded(KNOWN["tiny_vgg"])(test.images_NCHW / 255).softmax(dim=1)
    confidence_N, predictions_N = probabilities_NK.detach().max(dim=1)
    wrong = [n for n in range(len(test)) if predictions_N[n] != test.labels_N[n]]
    worst = sorted(wrong, key=lambda n: -float(confidence_N[n]))[:6]
    mistakes = [image["name"] for image in data_in(page())["images"] if image["group"] == "mistakes"]
    assert mistakes == [f"test image {n}" for n in worst]


def test_photo_as_predict_prepares_it(page: Page, photo: Path) -> None:
    image = data_in(page("--image", str(photo)))["images"][0]
    assert (image["group"], image["name"], image["inverted"]) == ("photo", photo.name, True)
    assert decoded(image["pixels"], "u1").tolist() == read_garment(photo).pixels_HW.flatten().tolist()


def test_photo_for_a_model_of_colours(tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), "red").save(tmp_path / "mars.png")
    brought = {"image_size": 8, "channels": 3, "fit": "crop"}
    checkpoint: Any = SimpleNamespace(source="images", input_shape=(3, 8, 8), brought=brought)
    image = explain.photo(tmp_path / "mars.png", checkpoint, "auto")
    assert image["pixels"][:, 4, 4].tolist() == [255, 0, 0]
    assert "brought to 8 x 8" in image["how"]


def test_weights_after_training(page: Page) -> None:
    expected = seeded(KNOWN["tiny_vgg"]).state_dict()
    layers = {layer["name"]: layer for layer in data_in(page("--model", "model_2"))["layers"]}
    for key, weights in expected.items():
        layer, _, kind = key.rpartition(".")
        assert decoded(layers[layer][kind]).tolist() == weights.flatten().tolist()


@pytest.mark.parametrize("seed", [42, 7])
def test_weights_before_training(page: Page, set_params: SetParams, seed: int) -> None:
    set_params({"seed": seed})
    set_seeds(seed)
    expected = build_model("tiny_vgg", GREY_28, HIDDEN_UNITS, 10).get_parameter("block_1.0.weight")
    assert decoded(data_in(page())["layers"][0]["weight_before"]).tolist() == expected.flatten().tolist()


def test_seed_of_the_training(trained: Path, page: Page) -> None:
    """Whatever params.yaml says by now."""
    lock_training(trained / "models/model_2.safetensors", "model_2", "", seed=7)
    set_seeds(7)
    expected = build_model("tiny_vgg", GREY_28, HIDDEN_UNITS, 10).get_parameter("block_1.0.weight")
    html = page()
    assert "<code>seed: 7</code>. After" in html
    assert decoded(data_in(html)["layers"][0]["weight_before"]).tolist() == expected.flatten().tolist()


def test_seed_of_a_training_that_nobody_recorded(page: Page) -> None:
    assert re.search(r"<code>seed: 42</code>, if .*dvc\.lock", page())


def test_settings_of_the_architecture(trained: Path, page: Page) -> None:
    settings = {"kernel_size": 5, "padding": 2, "pooling": "avg"}
    model = build_model("tiny_vgg", GREY_28, HIDDEN_UNITS, 10, settings)
    params = model_params("tiny_vgg", hidden_units=HIDDEN_UNITS, settings=settings)
    save_checkpoint(trained / "models/best.safetensors", model, "model_2", params, no_images())
    layers = data_in(page())["layers"]
    assert layers[0]["kernel"] == [5, 5]
    assert len(layers[0]["weight_before"]) == len(layers[0]["weight"])
    assert layers[4]["kind"] == "AvgPool2d"


def test_best_model_by_default(page: Page) -> None:
    assert page() == page("--model", "model_2")


def test_same_files_same_page(page: Page, photo: Path) -> None:
    assert page("--image", str(photo)) == page("--image", str(photo))


def test_written_elsewhere(trained: Path, run_stage: RunStage) -> None:
    assert run_stage("commands.explain", "--output", "shared/inside.html").returncode == 0
    assert (trained / "shared/inside.html").is_file()
    assert not (trained / "explain.html").exists()


def test_nothing_is_fetched(page: Page, photo: Path) -> None:
    html = page("--image", str(photo))
    assert "default-src 'none'" in html
    assert re.findall(r"(?:https?:)?//[\w.]+\.\w", html.replace("http://www.w3.org/2000/svg", "")) == []
    assert [address for address in re.findall(r'(?:src|href)="([^"]*)"', html) if address[0] != "#"] == ["data:,"]


def test_names_are_never_markup(page: Page, photo: Path) -> None:
    html = page("--image", str(photo))
    assert photo.name not in html
    assert html.count("</script>") == len(explain.SCRIPTS) + 1


def test_synthetic_data_named(page: Page) -> None:
    assert "not FashionMNIST" in page()


# Which layers


@pytest.mark.parametrize("name", KNOWN)
def test_known_architecture(name: str, pixels: Tensor) -> None:
    data = data_of(seeded(KNOWN[name]), pixels)
    assert data["reason"] == ""
    assert data["layers"][-1]["shape"] == [10]


def test_functions_between_layers(pixels: Tensor) -> None:
    layers = data_of(seeded(Functional), pixels)["layers"]
    assert [(layer["name"], layer["kind"]) for layer in layers] == [
        ("conv", "Conv2d"),
        ("", "ReLU"),
        ("", "MaxPool2d"),
        ("", "Flatten"),
        ("hidden", "Linear"),
        ("", "ReLU"),
        ("out", "Linear"),
    ]


def test_layer_that_is_called_twice(pixels: Tensor) -> None:
    layers = data_of(seeded(TwoCalls), pixels)["layers"]
    assert [layer["name"] for layer in layers] == ["", "first", "relu", "second", "relu (2)"]
    assert [len(layer.get("weight_before", "")) > 0 for layer in layers] == [False, True, False, True, False]


def test_maps_of_features_behind_the_pixels(pixels: Tensor) -> None:
    """As a Linear layer gives them where channels are last."""
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten(2), nn.Unflatten(2, (28, 28)), nn.Linear(28, 5), nn.Flatten())
    layers = data_of(nn.Sequential(model, nn.Linear(5 * 3 * 28, 10)), pixels)["layers"]
    assert [layer["shape"] for layer in layers if layer["kind"] == "Linear"] == [[5, 3, 28], [10]]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (flat(nn.BatchNorm2d(1)), "0 is a BatchNorm2d"),
        (flat(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")), "0 pads with circular"),
        (nn.Sequential(nn.Linear(28, 1), nn.Flatten(), nn.Linear(28, 10)), "0 is a Linear layer on maps"),
        (Residual(), "between conv and out.0"),
        (flat(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU6()), "1 is a ReLU6"),
        (flat(nn.Hardtanh(0, 9)), "0 is a Hardtanh"),
        (Relu6(), "between conv and out.0"),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 1300), nn.Linear(1300, 10)), "more than 1,000,000 weights"),
    ],
    ids=["layer", "padding", "linear", "sum", "limit", "far limit", "function", "size"],
)
def test_reason_for_maps_alone(model: nn.Module, words: str, pixels: Tensor) -> None:
    assert words in reason(model, pixels)


def test_logits_that_no_layer_gives(pixels: Tensor) -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = flat()

        def forward(self, images_NCHW: Tensor) -> Any:
            return 2 * self.out(images_NCHW)

    assert "between out.1 and the logits" in reason(Doubled(), pixels)


def test_maps_in_8_bits(pixels: Tensor) -> None:
    model = seeded(lambda: flat(nn.BatchNorm2d(1), nn.Conv2d(1, 1, 3, padding=1)))
    outputs, _ = record_outputs(model, pixels / 255)
    for layer, output in zip(data_of(model, pixels)["layers"], outputs, strict=True):
        expected = output.after[:, : explain.MOST_MAPS].flatten(1).numpy()
        largest = np.array(layer["largest"])[:, None]
        stored = decoded(layer["maps"], "i1").reshape(expected.shape) / 127 * largest
        assert np.abs(stored - expected).max() <= largest.max() / 127


def coloured(count: int, height: int, width: int) -> Tensor:
    draw = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=draw)


# What the page can compute of images in colour that are not square.
COLOURED: dict[str, Callable[[], nn.Module]] = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 60, 10)
    ),
    "linear": lambda: build_model("linear", (3, 12, 20), HIDDEN_UNITS, 10),
    "pooled": lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3 * 60, 10)),
}


@pytest.mark.parametrize("name", COLOURED)
def test_images_in_colour(name: str) -> None:
    data = data_of(seeded(COLOURED[name]), coloured(2, 12, 20))
    assert (data["reason"], data["input_shape"]) == ("", [3, 12, 20])
    assert len(decoded(data["images"][0]["pixels"], "u1")) == 3 * 12 * 20


def test_page_holds_fewer_large_images() -> None:
    model = seeded(lambda: nn.Sequential(nn.AvgPool2d(64), nn.Flatten(), nn.Linear(3 * 16, 10)))
    assert len(data_of(model, coloured(10, 256, 256))["images"]) == 7


def test_stored_maps_are_shrunk() -> None:
    model = seeded(lambda: nn.Sequential(nn.BatchNorm2d(3), nn.AvgPool2d(64), nn.Flatten(), nn.Linear(3 * 4, 10)))
    first, pooled, *_ = data_of(model, coloured(1, 128, 128))["layers"]
    assert (first["shape"], first["size"]) == ([3, 128, 128], [64, 64])
    assert len(decoded(first["maps"], "i1")) == 3 * 64 * 64
    assert (pooled["shape"], pooled["size"]) == ([3, 2, 2], [2, 2])


def test_too_much_for_a_browser() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 80, 9), nn.AvgPool2d(40), nn.Flatten(), nn.Linear(320, 10)))
    assert "30,000,000 multiply-adds" in reason(model, coloured(1, 100, 100))


# What is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "model_7"), "models/model_7.safetensors is missing"),
        (("--image", "nosuch.png"), "nosuch.png"),
        (("--image", "params.yaml"), "params.yaml"),
    ],
    ids=["model", "image", "no image"],
)
def test_old_page_survives(trained: Path, stage_refusal: StageRefusal, arguments: tuple[str, ...], words: str) -> None:
    (trained / "explain.html").write_text("the old one")
    assert words in stage_refusal("commands.explain", *arguments)


def test_output_that_is_no_page(trained: Path, photo: Path, run_stage: RunStage) -> None:
    before = photo.read_bytes()
    done = run_stage("commands.explain", "--image", photo.name, "--output", photo.name)
    assert done.returncode == 2
    assert photo.read_bytes() == before


def test_model_of_other_classes(trained: Path, stage_refusal: StageRefusal) -> None:
    path = trained / "models/best.safetensors"
    model = build_model("linear", GREY_28, HIDDEN_UNITS, 2)
    save_checkpoint(path, model, "model_0", model_params(hidden_units=HIDDEN_UNITS), no_images(("cat", "dog")))
    assert "other classes" in stage_refusal("commands.explain")


def test_images_of_another_source(trained: Path, stage_refusal: StageRefusal) -> None:
    tensors, about = load_tensors(trained / "data/prepared/test.safetensors")
    save_tensors(trained / "data/prepared/test.safetensors", tensors, about | {"source": "mnist"})
    assert "is mnist" in stage_refusal("commands.explain")


def test_images_split_anew(trained: Path, stage_refusal: StageRefusal) -> None:
    """After `dvc repro prepare` alone, the model may have been trained on what are test images now."""
    lock_training(trained / "models/model_2.safetensors", "model_2", "")
    lock = json.loads(Path("dvc.lock").read_text())
    lock["stages"]["train_model_2"]["deps"].append({"path": "data/prepared", "md5": "old.dir"})
    lock["stages"]["prepare"] = {"outs": [{"path": "data/prepared", "md5": "new.dir"}]}
    Path("dvc.lock").write_text(json.dumps(lock) + "\n")
    Path("dvc.yaml").write_text("stages: {prepare: {cmd: 'true'}, train_model_2: {cmd: 'true'}}\n")
    assert "data/prepared is newer" in stage_refusal("commands.explain", "--model", "model_2")


def test_model_that_has_diverged(trained: Path, stage_refusal: StageRefusal) -> None:
    model = build_model("linear", GREY_28, HIDDEN_UNITS, 10)
    nn.init.constant_(model.get_parameter("layers.1.bias"), float("nan"))
    params = model_params(hidden_units=HIDDEN_UNITS)
    save_checkpoint(trained / "models/best.safetensors", model, "model_0", params, no_images())
    assert "not finite" in stage_refusal("commands.explain")


# In a browser

# Everything that the page computes for the second image, and a few things that it then shows.
NUMBERS = """
  document.querySelectorAll("input[name=image]")[1].click();
  const base64 = (values) => btoa(String.fromCharCode(...new Uint8Array(Float32Array.from(values).buffer)));
  return {
    outputs: outputs.slice(1).map((output) => base64(output.values)),
    probabilities: Array.from(softmaxTerms(logits()).probabilities),
    difference: Number(byId("proof").dataset.difference),
    verdict: byId("verdict").textContent,
  };
"""
# Clicks a unit of each layer and the place at row 2, column 3 of its map, and reads the numbers on the page.
STEPS = """
  const read = (selector) => [...byId("step").querySelectorAll(selector)].map((element) => element.textContent);
  const click = (view, row, column, size) => {
    const box = view.getBoundingClientRect();
    const clientX = box.left + ((column + 0.5) / size) * box.width;
    const clientY = box.top + ((row + 0.5) / size) * box.height;
    view.dispatchEvent(new PointerEvent("pointerdown", { clientX, clientY }));
  };
  const cells = (selector, inner, text) =>
    [...byId("step").querySelectorAll(selector)].map((each) => [...each.querySelectorAll(inner)].map(text));
  const steps = [];
  for (let step = 1; step <= layers.length; step++) {
    buttonOf(step, 1).click();
    const size = outputs[step].shape[1];
    if (isMaps(outputs[step])) click([...byId("step").querySelectorAll(".choosable")].at(-1), 2, 3, size);
    steps.push({
      title: byId("step").querySelector("h2").textContent,
      grids: cells(".cells", "span", (cell) => cell.textContent),
      winner: read(".cells .chosen"),
      sums: read(".result .figure"),
      total: read(".total strong"),
      table: cells(".contributions tr", "td.number", (cell) => cell.dataset.value).slice(1),
    });
  }
  buttonOf(SOFTMAX, 0).click();
  return { steps, softmax: read("tbody td.number") };
"""
MORE = """
  const last = [...byId("network").querySelectorAll("[data-step='1']")].at(-1);
  const text = last.textContent;
  chooseUnit(1, 19);
  const marked = last.getAttribute("aria-current");
  last.click();
  return { text, marked, unit: state.unit, title: byId("step").querySelector("h2").textContent };
"""
KEYS = """
  const press = (element, key) => element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const found = {};
  const start = byId("network").querySelectorAll("button[tabindex='0']");
  found.stops = start.length;
  start[0].focus();
  for (const key of ["ArrowRight", "ArrowDown", "ArrowDown"]) press(document.activeElement, key);
  found.unit = [state.step, state.unit];
  found.focus = document.activeElement.getAttribute("aria-label");
  const before = [state.row, state.column];
  const map = [...byId("step").querySelectorAll(".choosable")].at(-1);
  found.reachable = map.tabIndex;
  for (const key of ["Home", "ArrowRight", "ArrowUp", "ArrowUp"]) press(map, key);
  found.moved = [state.row - before[0], state.column];
  found.says = map.getAttribute("aria-label");
  chooseUnit(1, 0);
  byId("slide").click();
  await new Promise((done) => setTimeout(done, 500));
  found.slides = state.row > 0 || state.column > 0;
  byId("slide").click();
  const paused = state.column;
  await new Promise((done) => setTimeout(done, 500));
  found.pauses = state.column === paused;
  const all = (selector) => [...document.querySelectorAll(selector)];
  const named = (element) => element.getAttribute("aria-label") || element.getAttribute("alt");
  const pictures = all("[role]:not([role=status]), img, #network button");
  found.nameless = pictures.filter((element) => !named(element)).map((element) => element.outerHTML);
  found.unexplained = all("canvas").filter((canvas) => !canvas.closest("[aria-label], label")).length;
  found.pictures = all("canvas").length;
  return found;
"""
EVERY_WIDTH = """
  const found = {};
  for (let step = 0; step <= SOFTMAX; step++) {
    chooseUnit(step, 0);
    found[step] = document.documentElement.scrollWidth - innerWidth;
  }
  return { width: innerWidth, overflow: found, warning: document.querySelector("header .warn")?.textContent ?? "" };
"""
# The green channel of the image at row 2, column 3; and what the first convolution calls what its unit 2 reads.
CHANNEL = """
  buttonOf(0, 1).click();
  choosePlace(2, 3);
  const title = byId("step").querySelector("h2").textContent;
  const value = Number(byId("step").querySelector("[role=status]").textContent.match(/: (\\d+) /)[1]);
  buttonOf(1, 2).click();
  return { title, value, row: byId("step").querySelector(".channel figcaption").textContent };
"""
PLAY = """
  const set = (id, value) => { byId(id).value = value; byId(id).dispatchEvent(new Event("input")); };
  const choose = (number, value) => {
    const list = byId("playground").querySelectorAll("select")[number];
    list.value = value;
    list.dispatchEvent(new Event("change"));
  };
  const grid = (element) => [...element.children].map((cell) => Number(cell.dataset.value ?? cell.value));
  const found = [];
  const cases = [["Conv2d", 7, 3, 1, 0], ["Conv2d", 8, 2, 3, 2], ["MaxPool2d", 9, 3, 2, 1], ["AvgPool2d", 6, 2, 2, 1]];
  for (const [kind, size, kernel, stride, padding] of cases) {
    choose(0, kind);
    Object.entries({ size, kernel, stride, padding }).forEach(([key, value]) => set(`play-${key}`, value));
    const [input, ...others] = [...byId("playground").querySelectorAll(".cells")].map(grid);
    found.push({ kind, size, kernel, stride, padding, input, weights: others[0], output: others.at(-1) });
  }
  set("play-size", 3); set("play-kernel", 5); set("play-padding", 0);
  return { found, problem: byId("playground").querySelector(".warn").textContent };
"""


def shown(text: str) -> float:
    """Return a number as the page writes it."""
    return float(text.replace("\N{MINUS SIGN}", "-"))


@pytest.mark.slow
@needs_chromium
class TestInABrowser:
    def test_every_value_is_pytorch_s(self, pixels: Tensor, tmp_path: Path) -> None:
        models = {name: seeded(make) for name, make in KNOWN.items()}
        pages = [explain.render(data_of(model, pixels)) for model in models.values()]
        for (name, model), found in zip(models.items(), probe_pages(pages, NUMBERS, tmp_path), strict=True):
            images = pixels / 255
            recorded, logits_NK = record_outputs(model, images)
            steps, _ = explain.follow(recorded, images, logits_NK)
            for step, values in zip(steps, found["outputs"], strict=True):
                expected = step.after[1].flatten()
                np.testing.assert_allclose(decoded(values), expected, atol=1e-4, err_msg=f"{name} {step.name}")
            np.testing.assert_allclose(found["probabilities"], logits_NK[1].softmax(dim=0), atol=1e-6)
            assert found["difference"] < 1e-4
            assert CLASS_NAMES[int(logits_NK[1].argmax())] in found["verdict"]

    def test_colour_in_the_browser(self, tmp_path: Path) -> None:
        pixels = coloured(2, 12, 20)
        models = [*(seeded(make) for make in COLOURED.values()), seeded(lambda: flat_colour(nn.BatchNorm2d(3)))]
        pages = [explain.render(data_of(model, pixels)) for model in models]
        for found in probe_pages(pages, NUMBERS, tmp_path / "numbers"):
            assert found["difference"] < 1e-4
        widths = probe_pages(pages, EVERY_WIDTH, tmp_path / "width", 390)
        assert [step for page in widths for step, overflow in page["overflow"].items() if overflow > 0] == []
        (channel,) = probe_pages(pages[:1], CHANNEL, tmp_path / "channel")
        assert channel == {"title": "Image, green", "row": "green", "value": int(pixels[0, 1, 2, 3])}

    def test_numbers_on_the_page(self, pixels: Tensor, tmp_path: Path) -> None:
        model = seeded(KNOWN["tiny_vgg"])
        (found,) = probe_pages([explain.render(data_of(model, pixels))], STEPS, tmp_path)
        outputs, logits_NK = record_outputs(model, pixels / 255)
        for step, output in zip(found["steps"], outputs, strict=True):
            assert output.name in step["title"]
            before, after, module = output.before[0], output.after[0], output.module
            if isinstance(module, nn.Conv2d):
                window = functional.pad(before, (1, 1, 1, 1))[:, 2:5, 3:6]
                kernels = module.weight[1].detach()
                products = window * kernels
                for channel, result in enumerate(step["sums"]):
                    grids = step["grids"][3 * channel : 3 * channel + 3]
                    for grid, values in zip(grids, (window, kernels, products), strict=True):
                        expected = values[channel].flatten().tolist()
                        assert [shown(text) for text in grid] == pytest.approx(expected, abs=1e-4)
                    assert shown(result) == pytest.approx(float(products[channel].sum()), abs=1e-4)
                assert len(step["sums"]) == len(kernels)
            if isinstance(module, nn.MaxPool2d):
                window = before[1, 4:6, 6:8]
                assert [shown(text) for text in step["grids"][0]] == pytest.approx(window.flatten().tolist(), abs=1e-4)
                assert [shown(text) for text in step["winner"]] == pytest.approx([float(window.max())], abs=1e-4)
            if isinstance(module, nn.Linear):
                sums_KC = (before * module.weight.detach()).reshape(10, HIDDEN_UNITS, 49).sum(dim=2)
                rows = torch.cat([sums_KC.T, module.bias.detach()[None], after[None]])
                np.testing.assert_allclose(np.array(step["table"], float), rows, atol=1e-4)
            if step["total"]:
                value = float(after[1, 2, 3] if after.ndim == 3 else after[1])
                assert shown(step["total"][0]) == pytest.approx(value, abs=1e-4)
        logits_K = logits_NK[0]
        columns = torch.stack([logits_K, (logits_K - logits_K.max()).exp(), logits_K.softmax(dim=0)], dim=1)
        assert [shown(text) for text in found["softmax"]] == pytest.approx(columns.flatten().tolist(), abs=1e-4)

    def test_keyboard_and_alternative_texts(self, page: Page, photo: Path, tmp_path: Path) -> None:
        (found,) = probe_pages([page("--image", str(photo))], KEYS, tmp_path / "browser")
        assert found["stops"] == 1
        assert found["unit"] == [2, 2]
        assert "block_1.1 ReLU, map 2" in found["focus"]
        assert found["reachable"] == 0
        assert found["moved"] in ([-2, 1], [-1, 1], [0, 1])  # not beyond the edge
        assert "column 1" in found["says"]
        assert found["slides"]
        assert found["pauses"]
        assert found["pictures"] > 50
        assert (found["nameless"], found["unexplained"]) == ([], 0)

    def test_more_units_than_there_is_room_for(self, pixels: Tensor, tmp_path: Path) -> None:
        model = nn.Sequential(nn.Conv2d(1, 20, 3), nn.Flatten(), nn.Linear(20 * 26 * 26, 10))
        (found,) = probe_pages([explain.render(data_of(model, pixels))], MORE, tmp_path)
        assert found == {"text": "and 4 more", "marked": "true", "unit": 16, "title": "0 Conv2d, map 16"}

    def test_console_is_silent(self, trained: Path, page: Page, photo: Path, tmp_path: Path) -> None:
        page("--image", str(photo))
        html, console = browse(trained / "explain.html", tmp_path / "profile")
        assert console == []
        assert "block_1.0 Conv2d, map 0" in html

    def test_never_wider_than_the_window(self, pixels: Tensor, tmp_path: Path) -> None:
        models = [*(seeded(make) for make in KNOWN.values()), flat(nn.BatchNorm2d(1))]
        pages = [explain.render(data_of(model, pixels)) for model in models]
        found = probe_pages(pages, EVERY_WIDTH, tmp_path, 320, 390, 768, 1280)
        for page in found:
            assert [step for step, overflow in page["overflow"].items() if overflow > 0] == [], page["width"]
        assert [page["width"] for page in found[:: len(pages)]] == [320, 390, 768, 1280]
        assert [page["warning"] for page in found[: len(KNOWN)]] == [""] * len(KNOWN)
        assert "0 is a BatchNorm2d" in found[len(KNOWN)]["warning"]

    def test_playground_is_pytorch_s(self, pixels: Tensor, tmp_path: Path) -> None:
        (result,) = probe_pages([explain.render(data_of(flat(), pixels))], PLAY, tmp_path)
        for case in result["found"]:
            outer, kernel = case["size"] + 2 * case["padding"], case["kernel"]
            padded = torch.tensor(case["input"]).reshape(1, 1, outer, outer).float()
            if case["kind"] == "Conv2d":
                weights = torch.tensor(case["weights"]).reshape(1, 1, kernel, kernel).float()
                expected = functional.conv2d(padded, weights, stride=case["stride"])
            else:
                pool = {"MaxPool2d": nn.MaxPool2d, "AvgPool2d": nn.AvgPool2d}[case["kind"]]
                expected = pool(kernel, case["stride"])(padded)
            assert case["output"] == pytest.approx(expected.flatten().tolist(), abs=1e-4), case
        assert "larger than the input" in result["problem"]
