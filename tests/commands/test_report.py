"""The report: one file with everything inside, true to the files it is made from, and shown whole by a browser."""

import base64
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from math import comb
from operator import mul
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from PIL import Image
from ruamel.yaml import YAML

from stages.commands.report import gap_by_chance
from stages.commands.search_results import training_params
from stages.commands.templates import environment_of
from stages.lib.base.files import NOT_COUNTED, read_json, write_csv, write_json
from stages.lib.base.params import load_params
from stages.lib.base.timing import machine, write_timing
from studies.record import made_from
from tests.browser import browse, needs_chromium, probe_pages
from tests.helpers import RunStage, StageRefusal, set_keys, write_inputs

NAMES = ("model_0", "model_1", "model_2")
PICTURES = (
    "plots/accuracy.png",
    "plots/behaviour.png",
    "plots/recall.png",
    "plots/curves.png",
    "plots/confusion.png",
    "plots/predictions.png",
    "plots/mistakes.png",
    "plots/reliability.png",
    "plots/costs.png",
    "plots/filters.png",
    "plots/feature_maps.png",
    "plots/data/first_image.png",
    "plots/data/grid.png",
)
NO_GAPS = {"never_predicted": [], "undecided": 0}
LAYERS_HEADER = ["layer", "kind", "input", "output", "how", "parameters", "multiply_adds"]
BINS_HEADER = ["model", "low", "high", "confidence_pct", "accuracy_pct", "images"]
RELU = ("block.3", "ReLU", "10", "10", "", 0, 0)
ENVIRONMENT_OF = cache(environment_of)
HOSTILE = "<script>alert('T-shirt')</script> & \"top\""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the stages leave, for three models. Not to be changed."""
    folder = tmp_path_factory.mktemp("results")
    write_results(folder)
    return folder


@pytest.fixture
def results(written: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace with these files; Jinja compiles the template once for all tests."""
    monkeypatch.setattr("stages.commands.report.environment_of", ENVIRONMENT_OF)
    return Path(shutil.copytree(written, workspace, dirs_exist_ok=True))


def write_results(folder: Path) -> None:
    (folder / "models").mkdir()
    accuracies = {"model_0": 83.41, "model_1": 75.0, "model_2": 88.33}
    models = {}
    for number, name in enumerate(NAMES):
        models[name] = {
            "architecture": ("LinearBaseline", "MLP", "TinyVGG")[number],
            "accuracy": accuracies[name],
            "accuracy_low": accuracies[name] - 0.8,
            "accuracy_high": accuracies[name] + 0.7,
            "loss": 0.5 - number / 100,
            "model_acc": accuracies[name] + 0.02,
            "model_loss": 0.5,
            "calibration_error_pct": 1.57,
            "parameters": (7_960, 7_960, 7_740)[number],
            "multiply_adds": (7_940, 7_940, 1_133_860)[number],
            "file_bytes": 32_424,
        }
        gaps = {"never_predicted": ["Dress"], "undecided": 1_663} if name == "model_1" else NO_GAPS
        write_json(folder / f"metrics/eval/{name}.json", {"images": 10_000, "accuracy": accuracies[name], **gaps})
        trained = {"train_acc": (84.05, 75.94, 88.12)[number], "test_acc": (83.43, 75.02, 88.35)[number]}
        write_json(folder / f"metrics/train/{name}.json", {"watched": "test", **trained})
        (folder / f"models/{name}.safetensors").write_text(name)
        header = ["epoch", "train_loss", "train_acc", "test_loss", "test_acc"]
        write_csv(folder / f"plots/curves/{name}.csv", header, [(1, 0.59039, 79.2, 0.50954, 82.04)])
        layers = [
            ("block.0", "MaxPool2d", "10x14x14", "10x7x7", "(14 + 2 * 0 - 2) // 2 + 1 = 7", 0, 0),
            ("block.1", "Flatten", "10x7x7", "490", "10 * 7 * 7 = 490", 0, 0),
            ("block.2", "Linear", "490", "10", "", 4910, 4900),
        ]
        if name == "model_1":
            layers.append(RELU)
        write_csv(folder / f"plots/layers/{name}.csv", LAYERS_HEADER, layers)
    pair = {
        "first": "model_0",
        "second": "model_1",
        "only_first_right": 1_190,
        "only_second_right": 349,
        "p_value": 1.1e-107,
        "p_value_holm": 2.3e-107,
        "verdict": "model_0 is better than model_1",
    }
    comparison = {"source": "fashion-mnist", "by": "accuracy", "chosen_on": "test", "best": "model_2"}
    write_json(folder / "metrics/compare.json", {**comparison, "models": models, "pairs": [pair]})
    write_json(
        folder / "metrics/data.json",
        {
            "source": "fashion-mnist",
            "sha256": {"train-images-idx3-ubyte.gz": "3aede38d" * 8},
            "counts": {"train": 60_000, "validation": 0, "test": 10_000},
            "shape": [1, 28, 28],
            "mean": 0.286,
            "std": 0.353,
            "shared_images": {"train_test": 0, "train_validation": 0},
        },
    )
    bins = [(name, 0.8, 0.9, 85.0, 80.0, 20) for name in NAMES]
    write_csv(folder / "plots/reliability.csv", BINS_HEADER, bins)
    classes = [(HOSTILE, 0.9, 0.8, 0.847, 1_000), ("Trouser", 0.99, 0.97, 0.98, 1_000), ("Bag", 0.5, 0.6, 0.55, 1_000)]
    write_csv(folder / "plots/per_class.csv", ["class", "precision", "recall", "f1", "images"], classes)
    for number, path in enumerate(PICTURES):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (700 + 50 * number, 300), (20 * number, 90, 120)).save(folder / path)


@pytest.fixture
def times(results: Path) -> None:
    """Times of the three models, measured here; the chart of them takes longer to draw than all the rest to write."""
    for name, seconds in zip(NAMES, (12.1, 7.8, 173.3), strict=True):
        write_timing(name, [name], {"train_seconds": seconds, "threads": 1})
    speeds = {"images_per_second": dict.fromkeys(NAMES, 51_234.5), "threads": 1, "batch_size": 32}
    write_timing("inference", list(NAMES), speeds)


@pytest.fixture
def report(results: Path, run_stage: RunStage) -> Callable[[], str]:
    """`report()` writes the report and gives its HTML."""

    def write() -> str:
        done = run_stage("commands.report")
        assert done.returncode == 0, done.stderr
        return (results / "report.html").read_text(encoding="utf-8")

    return write


@pytest.fixture
def repository(results: Path) -> Path:
    """The results in a git repository of their own, all committed."""
    (results / ".gitignore").write_text("report.html\n")
    git(results, "init", "--quiet")
    git(results, "add", "--all")
    git(results, "commit", "--quiet", "--message", "Results & <figures>")
    return results


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", *author, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def dvc(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, check=True, capture_output=True)


def edit(path: Path, **changes: Any) -> None:
    write_json(path, read_json(path) | changes)


def set_value(path: Path, key: str, value: object) -> None:
    """Set a value inside, such as `models.model_1.accuracy`; infinity as a number too large for a float."""
    tree: Any = read_json(path)
    *steps, last = (int(step) if step.isdigit() else step for step in key.split("."))
    block = tree
    for step in steps:
        block = block[step]
    block[last] = value
    path.write_text(json.dumps(tree).replace("Infinity", "1e999"))


class Reader(HTMLParser):
    """Collects tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("style", "script"):
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def text_of(html: str) -> str:
    return Reader(html).text


Report = Callable[[], str]


@pytest.mark.usefixtures("times")
def test_pictures_inside_and_in_words(results: Path, report: Report) -> None:
    pictures = [attributes for tag, attributes in Reader(report()).tags if tag == "img"]
    sources = [f"data:image/png;base64,{base64.b64encode((results / path).read_bytes()).decode()}" for path in PICTURES]
    shown = [picture["src"] for picture in pictures]
    assert len(shown) == len(sources) + 1  # the speed chart is drawn for the report
    assert set(sources) <= set(shown)
    assert all(len(picture["alt"] or "") > 20 for picture in pictures)
    assert all(int(picture["width"] or 0) >= 600 and int(picture["height"] or 0) >= 300 for picture in pictures)


def test_nothing_is_fetched(report: Report) -> None:
    html = report()
    addresses = [
        value
        for _, attributes in Reader(html).tags
        for key, value in attributes.items()
        if key in ("src", "href", "srcset", "data", "action", "poster") and value
    ]
    assert addresses
    assert [address for address in addresses if not address.startswith(("data:", "#"))] == []
    assert "@import" not in html
    assert not re.search(r"url\(", html)
    assert "default-src 'none'" in html


def test_names_are_never_markup(report: Report) -> None:
    html = report()
    assert HOSTILE not in html
    assert HOSTILE in text_of(html)
    assert [tag for tag, _ in Reader(html).tags].count("script") == 1


@pytest.mark.usefixtures("times")
def test_numbers_and_verdict(report: Report) -> None:
    text = text_of(report())
    for figure in ("88.33", "82.61 to 84.11", "1.57", "1,133,860", "32,424", "173.3", "51,234", "0.4800"):
        assert figure in text, figure
    assert "model_0 is better than model_1: only model_0 is right on 1,190 images, only model_1 on 349" in text
    assert "p = 2.3e-107 by Holm" in text
    assert "model_2 (TinyVGG) is the best by accuracy: 88.33 % of 10,000 test images" in text


def test_where_7_times_7_comes_from(report: Report) -> None:
    text = text_of(report())
    assert "10 \N{MULTIPLICATION SIGN} 14 \N{MULTIPLICATION SIGN} 14" in text
    assert "10 · 7 · 7 = 490" in text


def test_layer_whose_multiply_adds_are_not_counted(results: Path, report: Report) -> None:
    """Neither are those of all layers, then: as in the comparison, a dash stands for them."""
    layers = [("gru", "GRU", "28x28", "", NOT_COUNTED, 1_200, 0), ("out", "Linear", "10", "10", "", 110, 100)]
    write_csv(results / "plots/layers/model_2.csv", LAYERS_HEADER, layers)
    set_value(results / "metrics/compare.json", "models.model_2.multiply_adds", None)
    set_value(results / "metrics/compare.json", "models.model_2.parameters", 1_310)
    text = text_of(report())
    assert "1,200 - multiply-adds not counted" in text
    assert "all 1,310 -" in text


def test_calibration_error_by_chance(results: Path, report: Report) -> None:
    """A bin of two images of 50 % has none, one or both right, and is 50, 0 or 50 points off."""
    bins = [("model_0", 0.4, 0.5, 50.0, 50.0, 2), ("model_0", 0.9, 1.0, 100.0, 100.0, 6)]
    bins += [(name, 0.8, 0.9, 75.0, 0.0, 1) for name in ("model_1", "model_2")]
    write_csv(results / "plots/reliability.csv", BINS_HEADER, bins)
    by_chance = 2 / 8 * 0.5 * 50, 0.75 * 25 + 0.25 * 75
    text = f"chance alone: model_0 {by_chance[0]:.2f} %, model_1 {by_chance[1]:.2f} %, model_2 {by_chance[1]:.2f} %"
    assert text in text_of(report())


@pytest.mark.parametrize(("images", "probability"), [(6, 0.55), (40, 0.99), (10, 0.9), (3, 1.0)])
def test_gap_by_chance(images: int, probability: float) -> None:
    right = range(images + 1)
    weights = [comb(images, each) * probability**each * (1 - probability) ** (images - each) for each in right]
    gaps = [abs(each / images - probability) for each in right]
    assert gap_by_chance(images, probability) == pytest.approx(sum(map(mul, weights, gaps)))


def test_copies_among_test_images(results: Path, report: Report) -> None:
    assert "copies of others" not in text_of(report())
    edit(results / "metrics/data.json", test_copies=1_200)
    assert "1,200 of the 10,000 test images are copies of others" in text_of(report())


def test_test_images_that_were_trained_on(results: Path, report: Report) -> None:
    assert "have seen them" not in text_of(report())
    set_value(results / "metrics/data.json", "shared_images.train_test", 300)
    assert "300 of the 10,000 test images are among the training images: the models have seen" in text_of(report())


class TestGaps:
    """What a model never answers, for how many images it cannot decide, and why."""

    def test_said_in_words(self, report: Report) -> None:
        text = text_of(report())
        assert re.search(r"model_1 never answers Dress and gives all classes the same probability for 1,663", text)
        assert "model_0 never answers" not in text
        assert "model_0 gives all classes" not in text

    @pytest.mark.parametrize(("gaps", "said"), [({"undecided": 0}, "never"), ({"never_predicted": []}, "gives")])
    def test_one_of_the_two(self, results: Path, report: Report, gaps: dict[str, Any], said: str) -> None:
        edit(results / "metrics/eval/model_1.json", **gaps)
        text = text_of(report())
        assert f"model_1 {said}" in text
        assert ("model_1 never answers" in text) is (said == "never")
        assert ("all classes the same probability for" in text) is (said == "gives")

    def test_nothing_to_say(self, results: Path, report: Report) -> None:
        edit(results / "metrics/eval/model_1.json", **NO_GAPS)
        text = text_of(report())
        assert "Every model answers each class" in text
        assert "never answers" not in text
        assert "mlp_hidden" not in text

    def test_class_name_is_text(self, results: Path, report: Report) -> None:
        edit(results / "metrics/eval/model_1.json", never_predicted=[HOSTILE, "Bag"])
        html = report()
        assert HOSTILE not in html
        assert f"never answers {HOSTILE}, Bag" in text_of(html)

    def test_relu_is_the_reason(self, report: Report) -> None:
        text = text_of(report())
        assert re.search(r"model_1 ends in a ReLU .*block\.3", text)
        assert "model_0 ends in a ReLU" not in text

    def test_another_reason(self, results: Path, report: Report) -> None:
        """A model that does not end in a ReLU has gaps for reasons that the report does not know."""
        edit(results / "metrics/eval/model_0.json", never_predicted=["Bag"])
        text = text_of(report())
        assert "model_0 never answers Bag" in text
        assert "model_0 ends in a ReLU" not in text

    @pytest.mark.parametrize("arch", ["mlp", "own"])
    def test_what_to_try(self, results: Path, report: Report, arch: str) -> None:
        set_keys(results / "params.yaml", {"model_1.arch": arch})
        assert ("dvc exp run -S model_1.arch=mlp_hidden" in text_of(report())) is (arch == "mlp")


def set_accuracies(folder: Path, name: str, on_training: float, on_test: float) -> None:
    edit(folder / f"metrics/train/{name}.json", train_acc=on_training)
    edit(folder / f"metrics/eval/{name}.json", accuracy=on_test)


class TestOverfitting:
    """Training accuracy beside the accuracy on images held out."""

    def test_both_accuracies(self, report: Report) -> None:
        text = text_of(report())
        assert "model_1 75.94 % of the training and 75.00 % of the test images" in text

    def test_lecture_question_answered(self, report: Report) -> None:
        text = text_of(report())
        assert "no model overfits" in text
        assert "model_1 is the weakest on its training images as well" in text

    def test_model_that_overfits(self, results: Path, report: Report) -> None:
        edit(results / "metrics/train/model_2.json", train_acc=97.5)
        text = text_of(report())
        assert "model_2 overfits" in text
        assert "no model overfits" not in text

    def test_weakest_overfits(self, results: Path, report: Report) -> None:
        set_accuracies(results, "model_1", 75.94, 60.0)
        text = text_of(report())
        assert "model_1 overfits" in text
        assert "the weakest on its training images" not in text

    @pytest.mark.parametrize(("knob", "why"), [({"augment": ["flip"]}, "varied"), ({"ema": 0.99}, "averaged")])
    def test_no_verdict_on_what_cannot_be_compared(
        self, results: Path, report: Report, knob: dict[str, Any], why: str
    ) -> None:
        """Accuracy on varied images, or of other weights than the model's, may be low though it knows all by heart."""
        set_keys(results / "params.yaml", {f"model_2.{key}": value for key, value in knob.items()})
        text = text_of(report())
        assert re.search(f"Of model_2 the two cannot be compared, since .*{why}", text)
        assert "no model overfits" not in text
        assert "no other model overfits" in text

    def test_no_verdict_with_dropout(self, results: Path, report: Report) -> None:
        """In training it leaves out a part of the model, which is right on fewer images than all of it."""
        edit(results / "metrics/train/model_2.json", train_acc=80.0)
        write_csv(results / "plots/layers/model_2.csv", LAYERS_HEADER, [("3", "Dropout2d", "10", "10", "", 0, 0)])
        text = text_of(report())
        assert "Of model_2 the two cannot be compared, since a part of its units was left out at random" in text

    def test_gap_that_chance_makes(self, results: Path, report: Report) -> None:
        """Of 50 test images, four points are two."""
        set_value(results / "metrics/data.json", "counts.test", 50)
        set_accuracies(results, "model_2", 92.0, 88.0)
        text = text_of(report())
        assert "Of model_2 the two cannot be compared, since with 50 test images chance alone may make them" in text
        assert "model_2 overfits" not in text

    def test_few_images_hide_that_a_model_overfits(self, results: Path, report: Report) -> None:
        """A model that has learned its training images by heart may guess all of 4 others."""
        set_value(results / "metrics/data.json", "counts.test", 4)
        set_accuracies(results, "model_2", 100.0, 100.0)
        text = text_of(report())
        assert "Of model_2 the two cannot be compared, since with 4 test images chance alone may hide 49 points" in text
        assert "model overfits" not in text

    def test_copies_hide_that_a_model_overfits(self, results: Path, report: Report) -> None:
        """With 300 copies in 10,000 images the true gap may be 3 points larger; of model_0 even that is below 2."""
        set_value(results / "metrics/data.json", "shared_images.train_test", 300)
        set_accuracies(results, "model_0", 83.0, 85.0)
        set_accuracies(results, "model_2", 89.0, 89.0)
        text = text_of(report())
        assert "Of model_2 the two cannot be compared, since 300 of the 10,000 test images are training" in text
        assert "Of model_0" not in text

    def test_copies_of_validation_images(self, results: Path, report: Report) -> None:
        set_value(results / "metrics/data.json", "counts.validation", 6000)
        set_value(results / "metrics/data.json", "shared_images.train_validation", 1)
        assert "No test image and 1 validation image are in the training set too" in text_of(report())

    def test_weakest_of_all(self, results: Path, report: Report) -> None:
        """One that is not compared may be weaker still on the images held out."""
        set_keys(results / "params.yaml", {"model_2.augment": ["shift"]})
        set_accuracies(results, "model_2", 60.0, 65.0)
        assert "the weakest" not in text_of(report())

    def test_all_models_varied(self, results: Path, report: Report) -> None:
        set_keys(results / "params.yaml", {f"{name}.augment": ["shift"] for name in NAMES})
        text = text_of(report())
        assert "model overfits" not in text
        assert "the weakest" not in text

    def test_smoothed_loss(self, results: Path, report: Report) -> None:
        assert "Smoothed labels" not in text_of(report())
        set_keys(results / "params.yaml", {"model_1.label_smoothing": 0.1})
        assert "Smoothed labels make the training loss of model_1 higher" in text_of(report())

    def test_models_alike(self, results: Path, report: Report) -> None:
        for name in NAMES:
            set_accuracies(results, name, 84.0, 83.9)
        assert "the weakest" not in text_of(report())

    def test_validation_images(self, results: Path, report: Report) -> None:
        for name in NAMES:
            edit(results / f"metrics/train/{name}.json", watched="validation")
            edit(results / f"metrics/eval/{name}.json", validation={"accuracy": 74.5})
        assert "75.94 % of the training and 74.50 % of the validation images" in text_of(report())

    def test_mean_over_batches(self, results: Path, report: Report) -> None:
        """Of 33 test images in batches of 32 the last weighs as much as all others: if it is wrong, 58 % become 30."""
        set_value(results / "metrics/data.json", "counts.test", 33)
        edit(results / "metrics/train/model_2.json", train_acc=76.46, test_acc=29.69)
        edit(results / "metrics/eval/model_2.json", accuracy=57.58)
        assert "model_2 76.46 % of the training and 57.58 % of the test images" in text_of(report())

    @pytest.mark.parametrize(("images", "known"), [(96, True), (97, False)])
    def test_mean_over_batches_of_training_images(
        self, results: Path, report: Report, images: int, known: bool
    ) -> None:
        """Of 97 the last weighs as much as 32: 75 % may be nearly all of them."""
        set_value(results / "metrics/data.json", "counts.train", images)
        set_accuracies(results, "model_2", 75.0, 50.0)
        assert ("Of model_2 the two cannot be compared" in text_of(report())) is not known


def test_hashes_folded_away(report: Report) -> None:
    html = report()
    before = html[: html.index("3aede38d")]
    assert before.rindex("<details") > before.rfind("</details>")


@pytest.mark.parametrize("source", ["fashion-mnist", "synthetic"])
def test_synthetic_data_named_at_the_top(results: Path, report: Report, source: str) -> None:
    edit(results / "metrics/data.json", source=source)
    html = report()
    assert ("Synthetic data." in text_of(html)) is (source == "synthetic")
    assert ("not FashionMNIST" in html[: html.index("</h1>")]) is (source == "synthetic")


def test_another_data_set(results: Path, report: Report) -> None:
    edit(results / "metrics/data.json", source="images", data_set="planets <b>", shape=[3, 64, 48])
    html = report()
    assert "models on planets &lt;b&gt;" in html
    assert "FashionMNIST" not in html
    assert "three channels of 64 \N{MULTIPLICATION SIGN} 48" in text_of(html)


def test_unequal_classes(results: Path, report: Report) -> None:
    assert "Balanced accuracy" not in text_of(report())
    models = read_json(results / "metrics/compare.json")["models"]
    edit(
        results / "metrics/compare.json",
        models={name: {**row, "balanced_accuracy": 61.23} for name, row in models.items()},
    )
    assert "Balanced accuracy %" in text_of(report())
    assert "61.23" in text_of(report())


def test_classes_of_few_images(results: Path, report: Report) -> None:
    classes = [("Dress", 1.0, 0.9, 0.95, 1_000), ("Bag", 1.0, 1.0, 1.0, 1), ("Coat", 0.0, 0.0, 0.0, 0)]
    write_csv(results / "plots/per_class.csv", ["class", "precision", "recall", "f1", "images"], classes)
    text = text_of(report())
    assert "Few test images, so that recall says little: Bag (1), Coat (none)" in " ".join(text.split())
    assert "20.7 to 100.0" in text  # one of one, by Wilson
    assert "88.0 to 91.7" in text


def test_no_precision_of_a_class_that_is_never_answered(results: Path, report: Report) -> None:
    best = read_json(results / "metrics/compare.json")["best"]
    edit(results / f"metrics/eval/{best}.json", never_predicted=["Coat"])
    classes = [("Dress", 0.9, 0.9, 0.9, 20), ("Coat", 0.0, 0.0, 0.0, 20)]
    write_csv(results / "plots/per_class.csv", ["class", "precision", "recall", "f1", "images"], classes)
    assert re.search(r"Coat\s+-\s+0\.0\s+0\.0 to", text_of(report()))


@pytest.mark.parametrize("chosen_on", ["test", "validation"])
def test_images_that_decided(results: Path, report: Report, chosen_on: str) -> None:
    edit(results / "metrics/compare.json", chosen_on=chosen_on)
    assert ("chosen on the validation images" in text_of(report())) is (chosen_on == "validation")


def test_one_model(results: Path, report: Report) -> None:
    """Nothing was chosen and nothing compared."""
    models = read_json(results / "metrics/compare.json")["models"]
    edit(results / "metrics/compare.json", models={"model_2": models["model_2"]}, pairs=[])
    text = text_of(report())
    assert [words for words in ("McNemar", "chosen", "best by accuracy") if words in text] == []
    assert "model_1" not in text.partition("Parameter Value")[0]


@pytest.mark.usefixtures("times")
def test_same_files_same_report(report: Report) -> None:
    assert report() == report()


def test_versions_and_data(report: Report) -> None:
    import matplotlib as mpl

    text = text_of(report())
    assert "3aede38d" * 8 in text
    assert f"matplotlib {mpl.__version__}" in text  # there is no dvc.lock that says another


def test_versions_are_those_of_the_run(results: Path, report: Report) -> None:
    """A report of results that another torch has made says so."""
    of_compare, of_older = ({"params": {"versions.toml": {"matplotlib": number}}} for number in ("0.1.2", "0.0.7"))
    (results / "dvc.yaml").write_text(json.dumps({"stages": {"compare": {}}}))
    lock = {"stages": {"compare": of_compare, "older": of_older}}
    (results / "dvc.lock").write_text(json.dumps(lock) + "\n")
    assert re.search(r"matplotlib 0\.1\.2 \(now \d", text_of(report()))


@pytest.mark.usefixtures("times")
def test_times_of_another_model_file(results: Path, report: Report) -> None:
    """A model that was not trained here has a dash, and no time that belongs to another."""
    (results / "models/model_2.safetensors").write_text("trained elsewhere")
    text = text_of(report())
    assert "173.3" not in text
    assert "12.1" in text
    assert re.search(r"TinyVGG 88\.33 .* - -", text)


def test_without_any_time(report: Report) -> None:
    text = text_of(report())
    assert "Test images per second" not in text
    assert "none of these models was trained on this machine" in text


@pytest.mark.usefixtures("times")
def test_device_is_named(results: Path, report: Report) -> None:
    """The processor of the machine is not what trained."""
    assert "cuda" not in text_of(report())
    edit(results / "metrics/timing/model_2.json", device="cuda")
    assert text_of(report()).count(f"{machine()}, with cuda") == 2


@pytest.mark.usefixtures("times")
def test_machine_is_named(report: Report) -> None:
    assert machine() in text_of(report())


def test_pipe_is_never_replaced(results: Path, stage_refusal: StageRefusal) -> None:
    os.mkfifo(results / "pipe")
    assert "pipe" in stage_refusal("commands.report", "-o", "pipe")
    assert (results / "pipe").is_fifo()


def test_written_elsewhere(results: Path, run_stage: RunStage) -> None:
    assert run_stage("commands.report", "--output", "shared/today.html").returncode == 0
    assert (results / "shared/today.html").stat().st_size > 10_000
    assert not (results / "report.html").exists()


class TestGit:
    def test_without_a_repository(self, report: Report) -> None:
        assert "No git repository here" in text_of(report())

    def test_without_git(self, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        assert "No git repository here" in text_of(report())

    def test_repository_around_an_archive(
        self, repository: Path, run_stage: RunStage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unpacked = repository / "unpacked"
        shutil.copytree(repository, unpacked, ignore=shutil.ignore_patterns(".git", "unpacked"))
        monkeypatch.chdir(unpacked)
        assert run_stage("commands.report").returncode == 0
        assert "No git repository here" in text_of((unpacked / "report.html").read_text(encoding="utf-8"))

    def test_commit_is_named(self, repository: Path, report: Report) -> None:
        html = report()
        assert git(repository, "rev-parse", "HEAD") in html
        assert "“Results & <figures>”, with nothing uncommitted" in text_of(html)

    def test_uncommitted_changes(self, repository: Path, report: Report) -> None:
        (repository / "params.yaml").write_text("seed: 1\n")
        (repository / "notes <b>.txt").write_text("new")
        text = text_of(report())
        assert "with 2 uncommitted changes" in text
        assert "M params.yaml" in text
        assert "notes <b>.txt" in text

    def test_new_files_that_git_shall_not_show(self, repository: Path, report: Report) -> None:
        """A setting of people with large folders."""
        git(repository, "config", "status.showUntrackedFiles", "no")
        (repository / "notes.txt").write_text("new")
        assert "?? notes.txt" in text_of(report())

    def test_repository_without_a_commit(self, results: Path, report: Report) -> None:
        git(results, "init", "--quiet")
        assert "No git repository here" in text_of(report())


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results as those of a stage, with the dvc.lock that DVC writes of them; a model that it reads is gone."""
    folder = tmp_path_factory.mktemp("pipeline")
    write_inputs(folder, {"train.device": "cpu", "train.threads": 1})
    write_results(folder)
    (folder / "dvc.yaml").write_text(
        """
        stages:
          train_model_1:
            cmd: "true"
            deps: [metrics/data.json, missing]
            params: [seed, model_1, fetch.source]
            outs: [plots/curves/model_1.csv: {cache: false}, metrics/train: {cache: false}]
        """
    )
    (folder / "missing").touch()
    dvc(folder, "init", "--no-scm", "--quiet")
    dvc(folder, "commit", "--force", "--quiet")
    (folder / "missing").unlink()
    return folder


class TestLock:
    @pytest.fixture
    def locked(self, pipeline: Path, results: Path) -> Path:
        shutil.copytree(pipeline, results, dirs_exist_ok=True)
        return results

    def test_outputs_with_their_hashes(self, locked: Path, report: Report) -> None:
        text = text_of(report())
        assert hashlib.md5((locked / "plots/curves/model_1.csv").read_bytes()).hexdigest() in text
        assert "Every file that is here is the one in dvc.lock." in text
        assert "Not up to date." not in text

    def test_file_changed_since(self, locked: Path, report: Report) -> None:
        with (locked / "plots/curves/model_1.csv").open("a") as file:
            file.write("2,0.5,80,0.5,83\n")
        text = text_of(report())
        assert "Not up to date. Changed since the pipeline ran: plots/curves/model_1.csv" in text

    def test_parameters_of_the_run(self, locked: Path, report: Report) -> None:
        assert "now" not in text_of(report()).partition("Parameter Value")[2].partition("Provenance")[0]
        set_keys(locked / "params.yaml", {"model_1.lr": 0.25})
        text = text_of(report())
        assert "model_1.lr 0.1 now 0.25" in text
        assert "Not up to date. Changed since the pipeline ran: model_1 in params.yaml" in text

    def test_parameter_that_the_run_did_not_have(self, locked: Path, report: Report) -> None:
        set_keys(locked / "params.yaml", {"model_1.memory_format": "channels_last"})
        assert "model_1.memory_format - now channels_last" in text_of(report())

    def test_model_that_is_gone(self, locked: Path, report: Report) -> None:
        text = (locked / "params.yaml").read_text()
        (locked / "params.yaml").write_text(re.sub(r"(?m)^model_2:\n(  .*\n)+", "", text))
        assert "Changed since the pipeline ran: model_2 in params.yaml" in text_of(report())

    def test_stages_that_ran_with_different_values(self, locked: Path, report: Report) -> None:
        lock = YAML().load(locked / "dvc.lock")
        other = {"cmd": "true", "params": {"params.yaml": {"seed": 7}}}
        YAML().dump({**lock, "stages": {**lock["stages"], "other": other}}, locked / "dvc.lock")
        pipeline = locked / "dvc.yaml"
        pipeline.write_text(pipeline.read_text() + "  other: {cmd: 'true', params: [seed]}\n")
        assert "seed 42 in some stages, 7 in others" in text_of(report())

    def test_frozen_stage(self, locked: Path, report: Report) -> None:
        """DVC does not look whether it is up to date."""
        pipeline = locked / "dvc.yaml"
        pipeline.write_text(pipeline.read_text().replace('cmd: "true"', 'cmd: "true"\n            frozen: true'))
        assert "Not up to date. Changed since the pipeline ran: train_model_1, which is frozen" in text_of(report())

    def test_command_of_a_stage(self, locked: Path, report: Report) -> None:
        pipeline = locked / "dvc.yaml"
        pipeline.write_text(pipeline.read_text().replace('"true"', "other"))
        assert "Not up to date. Changed since the pipeline ran: the command of train_model_1" in text_of(report())

    def test_without_a_lock(self, report: Report) -> None:
        assert "There is no dvc.lock" in text_of(report())

    def test_where_dvc_cannot_tell(self, locked: Path, report: Report) -> None:
        shutil.rmtree(locked / ".dvc")
        text = text_of(report())
        assert "Perhaps not up to date." in text.partition("Comparison")[0]
        assert "DVC could not compare the files" in text.partition("Provenance")[2]

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "stages: [",
            "<<<<<<< HEAD\nschema: '2.0'\n=======\nschema: '2.0'\n>>>>>>> theirs\n",
            "stages: [train_model_1]",
            "stages: {train_model_1: {outs: {path: a, md5: b}}}",
            "stages: {train_model_1: {params: {params.yaml: [seed]}}}",
            "\xff",
        ],
        ids=["empty", "cut", "conflict", "list", "outs", "params", "bytes"],
    )
    def test_lock_that_is_none(self, locked: Path, stage_refusal: StageRefusal, content: str) -> None:
        (locked / "dvc.lock").write_text(content, encoding="latin-1")
        assert "`git checkout HEAD dvc.lock`" in stage_refusal("commands.report")


@pytest.mark.parametrize(
    "missing",
    [
        PICTURES[0],
        PICTURES[-1],
        "metrics/compare.json",
        "metrics/data.json",
        "metrics/eval/model_2.json",
        "metrics/train/model_1.json",
        "plots/curves/model_1.csv",
        "plots/layers/model_1.csv",
        "plots/per_class.csv",
        "plots/reliability.csv",
    ],
)
def test_missing_file(results: Path, stage_refusal: StageRefusal, missing: str) -> None:
    (results / "report.html").write_text("the old one")
    (results / missing).unlink()
    assert f"{missing} is missing" in stage_refusal("commands.report")


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("metrics/compare.json", "models"),
        ("metrics/compare.json", "chosen_on"),
        ("metrics/compare.json", "pairs"),
        ("metrics/eval/model_0.json", "never_predicted"),
        ("metrics/eval/model_0.json", "undecided"),
        ("metrics/train/model_0.json", "train_acc"),
        ("metrics/train/model_0.json", "test_acc"),
    ],
)
def test_outputs_of_older_code(results: Path, stage_refusal: StageRefusal, file: str, key: str) -> None:
    block = read_json(results / file)
    del block[key]
    write_json(results / file, block)
    line = stage_refusal("commands.report")
    assert file in line
    assert key in line


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        *(("metrics/compare.json", "models.model_1.accuracy", value) for value in ("83.4", None, True, [83.4], 1e999)),
        ("metrics/compare.json", "pairs.0.p_value_holm", 1e999),
        ("metrics/eval/model_2.json", "images", "10000"),
        ("metrics/eval/model_0.json", "undecided", None),
        ("metrics/train/model_0.json", "train_acc", True),
        ("metrics/data.json", "counts.train", [60_000]),
    ],
)
def test_no_number(results: Path, stage_refusal: StageRefusal, file: str, key: str, value: object) -> None:
    set_value(results / file, key, value)
    line = stage_refusal("commands.report")
    assert file in line
    assert key in line
    assert "`dvc repro`" in line


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        *(("metrics/compare.json", "best", value) for value in (0, None, ["model_2"])),
        ("metrics/compare.json", "models.model_1.architecture", 0),
        ("metrics/train/model_1.json", "watched", None),
        ("metrics/eval/model_1.json", "never_predicted.0", ["Dress"]),
        ("metrics/data.json", "source", 0),
    ],
)
def test_no_text(results: Path, stage_refusal: StageRefusal, file: str, key: str, value: object) -> None:
    set_value(results / file, key, value)
    line = stage_refusal("commands.report")
    assert file in line
    assert key in line


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        *(("metrics/compare.json", "models", value) for value in (0, "a", None, [1], {"model_1": 1})),
        *(("metrics/compare.json", "pairs", value) for value in (0, "a", None, [1], {"model_1": 1})),
        ("metrics/data.json", "shared_images", [1]),
        ("metrics/eval/model_0.json", "never_predicted", "a"),
    ],
)
def test_no_block(results: Path, stage_refusal: StageRefusal, file: str, key: str, value: object) -> None:
    set_value(results / file, key, value)
    line = stage_refusal("commands.report")
    assert file in line
    assert key in line


def test_model_of_another_name(results: Path, stage_refusal: StageRefusal) -> None:
    models = read_json(results / "metrics/compare.json")["models"]
    edit(results / "metrics/compare.json", models=models | {"../resnet": models["model_0"]})
    assert "models.../resnet" in stage_refusal("commands.report")


@pytest.mark.parametrize("best", ["model_7", ""])
def test_best_model_that_was_not_compared(results: Path, stage_refusal: StageRefusal, best: str) -> None:
    edit(results / "metrics/compare.json", best=best)
    assert "metrics/" in stage_refusal("commands.report")


@pytest.mark.parametrize(
    ("file", "column", "value"),
    [
        *(("curves/model_0", "train_loss", value) for value in ("", "high", "nan")),
        ("layers/model_1", "parameters", "high"),
        ("per_class", "f1", ""),
        ("reliability", "images", "many"),
    ],
)
def test_no_number_in_a_table(results: Path, stage_refusal: StageRefusal, file: str, column: str, value: str) -> None:
    path = results / f"plots/{file}.csv"
    header, first, *_ = csv.reader(path.read_text().splitlines())
    write_csv(path, header, [[value if name == column else cell for name, cell in zip(header, first, strict=True)]])
    line = stage_refusal("commands.report")
    assert f"plots/{file}.csv" in line
    assert column in line


@pytest.mark.usefixtures("times")
@pytest.mark.parametrize(("key", "value"), [("train_seconds", "fast"), ("train_seconds", None), ("model_sha256", [])])
def test_times_that_are_none(results: Path, report: Report, key: str, value: object) -> None:
    """Times are no results: a model without one has a dash."""
    edit(results / "metrics/timing/model_2.json", **{key: value})
    text = text_of(report())
    assert "173.3" not in text
    assert "12.1" in text


def test_table_with_a_merge_conflict(results: Path, stage_refusal: StageRefusal) -> None:
    with (results / "plots/curves/model_0.csv").open("a") as file:
        file.write("<<<<<<< HEAD\n")
    assert "plots/curves/model_0.csv is damaged" in stage_refusal("commands.report")


# In a browser

WIDTHS = (320, 390, 768, 1280)
# Looks at the page once it is there.
PROBE = """
  const first = (id) => [...document.querySelectorAll(`#${id} tbody tr`)].map((row) => row.cells[0].textContent);
  const head = (id, name) => [...document.querySelectorAll(`#${id} thead th`)].find((th) => th.textContent === name);
  const click = (id, name) => { head(id, name).querySelector("button").click(); return first(id); };
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  await new Promise((done) => setTimeout(done, 200)); // until the sizes are noticed
  const found = {
    cut_off: [...document.querySelectorAll(".scroll, .frame")].filter((box) => box.scrollWidth > box.clientWidth + 1)
      .map((box) => [getComputedStyle(box).maskImage !== "none", box.tabIndex,
        box.matches(".scroll") || getComputedStyle(box.parentNode.querySelector(".drag")).display !== "none"]),
    pictures: [...document.images].map((image) => [image.naturalWidth, image.naturalHeight, image.clientWidth]),
    requests: performance.getEntriesByType("resource").map((entry) => entry.name)
      .filter((name) => !name.startsWith("data:")),
    overflow: document.documentElement.scrollWidth - innerWidth,
    width: innerWidth,
    unsorted: first("models"),
    by_accuracy: click("models", "Accuracy %"),
    sorted: head("models", "Accuracy %").getAttribute("aria-sort"),
    by_accuracy_again: click("models", "Accuracy %"),
    by_training: click("models", "Training, s"),
    by_name: click("models", "Model"),
    by_class: click("classes", "Class"),
    letters: [...document.images].map((image) => 9 / 72 * 150 * image.clientWidth / image.naturalWidth),
    still_marked: document.querySelectorAll("#models [aria-sort]").length,
  };
  return found;
"""


@cache  # the browser starts once for tests of the same report
def probe(html: str) -> dict[int, dict[str, Any]]:
    """What the probe finds in windows of each width."""
    with TemporaryDirectory() as folder:
        return dict(zip(WIDTHS, probe_pages([html], PROBE, Path(folder), *WIDTHS), strict=True))


@pytest.mark.slow
@needs_chromium
@pytest.mark.usefixtures("times")
class TestInABrowser:
    def test_console_is_silent(self, results: Path, report: Report, tmp_path: Path) -> None:
        report()
        page, console = browse(results / "report.html", tmp_path / "profile")
        assert console == []
        assert "Provenance" in page

    def test_request_is_noticed(self, results: Path, report: Report, tmp_path: Path) -> None:
        html = report().replace("</body>", '<img src="http://example.org/picture.png"></body>')
        (results / "report.html").write_text(html)
        _, console = browse(results / "report.html", tmp_path / "profile")
        assert any("example.org" in line for line in console)

    def test_pictures_show_and_table_sorts(self, report: Report) -> None:
        found = probe(report())[1280]
        assert len(found["pictures"]) == len(PICTURES) + 1
        assert all(width > 0 and height > 0 and shown > 0 for width, height, shown in found["pictures"])
        assert found["requests"] == []
        assert found["unsorted"] == ["model_0", "model_1", "model_2"]
        assert found["by_accuracy"] == ["model_2", "model_0", "model_1"]
        assert found["sorted"] == "descending"
        assert found["by_accuracy_again"] == ["model_1", "model_0", "model_2"]
        assert found["by_training"] == ["model_2", "model_0", "model_1"]
        assert found["by_name"] == ["model_0", "model_1", "model_2"]
        assert found["by_class"] == [HOSTILE, "Bag", "Trouser"]
        assert found["still_marked"] == 1

    def test_phone_says_that_it_scrolls(self, report: Report) -> None:
        found = probe(report())[390]
        assert len(found["cut_off"]) > len(PICTURES)
        assert [box for box in found["cut_off"] if box != [True, 0, True]] == []

    def test_phone_letters_can_be_read(self, report: Report) -> None:
        found = probe(report())[390]
        assert min(found["letters"]) >= 9  # CSS pixels, for a label of 9 points in a picture of 150 dpi

    @pytest.mark.parametrize("width", WIDTHS)
    def test_never_wider_than_the_window(self, report: Report, width: int) -> None:
        found = probe(report())[width]
        assert found["width"] == width
        assert found["overflow"] <= 0


def test_as_good_as_the_best(results: Path, report: Report) -> None:
    edit(results / "metrics/compare.json", equals=["model_3"])
    assert "By accuracy on the test images model_3 is as good: it is the first of them" in text_of(report())


def test_own_images_that_are_called_fashion_mnist(results: Path, report: Report) -> None:
    """prepare notes no name that is FashionMNIST's."""
    edit(results / "metrics/data.json", source="images")
    text = text_of(report())
    assert "3 models on your images" in text
    assert "on FashionMNIST" not in text


def test_study_of_the_present_parameters(results: Path, report: Report) -> None:
    params = load_params()
    now = {name: made_from(params.model(name), params.train.precision) for name in params.models}
    study = {"seeds": [42, 43], "sentences": ["model_2 is the better recipe than model_0"], "made_from": now}
    write_json("studies/seeds/results.json", study)
    Path("studies/seeds/accuracies.png").write_bytes((results / "plots/accuracy.png").read_bytes())
    assert "model_2 is the better recipe than model_0" in report()
    set_keys(results / "params.yaml", {"model_1.lr": 0.5})
    assert "better recipe" not in report()


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({}, True),
        ({"model_2.lr": 0.02, "prepare.validation": 100}, True),  # what the search has found
        ({"confusion.samples": 4, "model_1.lr": 0.5, "fetch.mirrors": ["/mirror"]}, True),
        ({"model_2.lr": 0.5}, False),
        ({"seed": 7}, False),
        ({"fetch.source": "synthetic"}, False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_search_of_the_present_parameters(results: Path, report: Report, change: dict[str, Any], shown: bool) -> None:
    write_search(results, "recipe")
    set_keys(results / "params.yaml", change)
    html = report()
    assert [row in html for row in ("recipe-007", "91.2345", "recipe-007-best reaches 90.12 %")] == [shown] * 3
    assert html.count("by PED-ANOVA") == shown
    assert "Each trial in its turn" not in html  # there is no such picture


def test_search_whose_winner_did_not_run(results: Path, report: Report) -> None:
    path = write_search(results, "recipe")
    assert "dvc exp apply recipe-007-best" in report()
    write_json(path, {key: value for key, value in read_json(path).items() if key != "test"})  # as with --no-test
    assert "recipe-007-best" not in report()


def write_search(folder: Path, name: str) -> Path:
    params = training_params(load_params(), "model_2")
    settings = {"prepare.validation": 100, "model_2.lr": 0.02}
    rows = [{"name": f"{name}-007", "value": 91.2345, "settings": settings}]
    about = {"name": name, "model": "model_2", "metric": "test_acc", "space": ["model_2.lr"], "commit": "a" * 40}
    found = {"trials": 1, "failed": 0, "rows": rows, "test": {f"{name}-007-best": 90.12}}
    write_json(path := folder / f"searches/{name}/results.json", about | found | {"params": params})
    picture = (folder / "plots/accuracy.png").read_bytes()
    (folder / f"searches/{name}/importances.png").write_bytes(picture)
    return path
