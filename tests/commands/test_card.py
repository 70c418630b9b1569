"""The model card: the same results give the same card, and the card says what they are."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.lib.base.files import read_json, write_csv, write_json
from tests.helpers import PROJECT, RunStage, StageRefusal

ROW = {"architecture": "TinyVGG", "accuracy": 88.33, "accuracy_low": 87.69, "accuracy_high": 88.94, "loss": 0.32086}
COSTS = {"calibration_error_pct": 0.69, "parameters": 7_740, "multiply_adds": 1_133_860, "file_bytes": 32_024}
PAIR = {"first": "model_0", "second": "model_2", "only_first_right": 239, "only_second_right": 731}
OTHERS = {"first": "model_0", "second": "model_1", "only_first_right": 1_190, "only_second_right": 349}
Card = Callable[[], str]


@pytest.fixture
def results(workspace: Path) -> Path:
    """The workspace with what git keeps of a run that model_2 won."""
    write_json(
        "metrics/compare.json",
        {
            "source": "fashion-mnist",
            "by": "accuracy",
            "chosen_on": "test",
            "best": "model_2",
            "models": {name: {**ROW, **COSTS} for name in ("model_0", "model_1", "model_2")},
            "pairs": [
                {**PAIR, "p_value_holm": 1.4e-58, "verdict": "model_2 is better than model_0"},
                {**OTHERS, "p_value_holm": 4.6e-107, "verdict": "model_0 is better than model_1"},
            ],
        },
    )
    write_json(
        "metrics/eval/model_2.json", {"accuracy": 88.33, "images": 10_000, "undecided": 0, "never_predicted": []}
    )
    write_json("metrics/train/model_2.json", {"watched": "test", "train_acc": 88.12, "test_acc": 88.35})
    write_json(
        "metrics/data.json",
        {
            "source": "fashion-mnist",
            "sha256": {},
            "counts": {"train": 60_000, "validation": 0, "test": 10_000},
            "shape": [1, 28, 28],
            "mean": 0.286,
            "std": 0.353,
            "shared_images": {"train_test": 3, "train_validation": 0},
        },
    )
    classes = [("T-shirt|top", 0.82, 0.84, 0.83, 1_000), ("Shirt", 0.69, 0.66, 0.67, 1_000)]
    write_csv("plots/per_class.csv", ["class", "precision", "recall", "f1", "images"], classes)
    run = {"params": {"params.yaml": {"model_2": {"lr": 0.1}, "seed": 42}, "versions.toml": {"torch": "2.14.1"}}}
    Path("dvc.yaml").write_bytes((PROJECT / "dvc.yaml").read_bytes())
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"train_model_2": run}}) + "\n")
    return workspace


@pytest.fixture
def card(results: Path, run_stage: RunStage) -> Card:
    """`card()` writes the card and gives its Markdown."""

    def write() -> str:
        done = run_stage("commands.card")
        assert done.returncode == 0, done.stderr
        return (results / "docs/model_card.md").read_text()

    return write


def test_figures_with_interval(card: Card) -> None:
    assert "| accuracy | 88.33 % (95 % interval 87.69 to 88.94) |" in card()


def test_training_accuracy_is_no_accuracy_of_the_model(card: Card) -> None:
    """It is a mean over batches that were varied, perhaps, and of weights that changed from one to the next."""
    assert "| accuracy on the training images, while it learned | 88.12 % |" in card()


def test_data_and_parameters(card: Card) -> None:
    text = card()
    for line in ("| `train` | 60,000 |", "| `model_2.lr` | `0.1` |", "| `seed` | `42` |", "| `torch` | `2.14.1` |"):
        assert line in text


def test_pairs_of_the_best_alone(card: Card) -> None:
    text = card()
    assert "model_2 is better than model_0" in text
    assert "model_0 is better than model_1" not in text


def test_limits(card: Card) -> None:
    text = card()
    assert "3 test images are among the training images" in text
    assert "weakest class is `Shirt`: 66.0 %" in text
    assert "a little too good" in text
    assert "never answers" not in text
    assert "copies of others" not in text


def test_copies_among_test_images(card: Card) -> None:
    write_json("metrics/data.json", read_json("metrics/data.json") | {"test_copies": 1_200})
    assert "1,200 of the test images are copies of others" in card()


def test_chosen_by_validation_images(card: Card) -> None:
    write_json("metrics/compare.json", read_json("metrics/compare.json") | {"chosen_on": "validation"})
    assert "a little too good" not in card()
    data = read_json("metrics/data.json")
    write_json("metrics/data.json", data | {"shared_images": {"train_test": 3, "train_validation": 40}})
    assert "3 test images and 40 validation images are among the training images" in card()


def test_as_good_as_the_best(card: Card) -> None:
    write_json("metrics/compare.json", read_json("metrics/compare.json") | {"equals": ["model_3"]})
    assert "a `TinyVGG`; as good is model_3, which comes after it." in card()


def test_nothing_chose_among_one_model(card: Card) -> None:
    comparison = read_json("metrics/compare.json")
    models = {comparison["best"]: comparison["models"][comparison["best"]]}
    write_json("metrics/compare.json", comparison | {"models": models, "pairs": []})
    text = card()
    assert "too good" not in text
    assert "best of" not in text


def test_gaps(card: Card) -> None:
    write_json(
        "metrics/eval/model_2.json", {"accuracy": 88.33, "images": 9, "undecided": 663, "never_predicted": ["Dress"]}
    )
    text = card()
    assert "never answers `Dress`" in text
    assert "663" in text


def test_no_precision_of_a_class_that_is_never_answered(card: Card) -> None:
    write_json("metrics/eval/model_2.json", {"accuracy": 40, "images": 9, "undecided": 0, "never_predicted": ["Shirt"]})
    write_csv("plots/per_class.csv", ["class", "precision", "recall", "f1", "images"], [("Shirt", 0.0, 0.0, 0.0, 5)])
    assert "| `Shirt` | - | 0.0 | 5 |" in card()


def test_drawn_images(card: Card) -> None:
    write_json("metrics/data.json", read_json("metrics/data.json") | {"source": "synthetic"})
    assert "Drawn garments" in card()


def test_trained_outside_the_pipeline(card: Card) -> None:
    Path("dvc.lock").unlink()
    assert "does not know how it was trained" in card()


def test_class_names_break_no_table(card: Card) -> None:
    (row,) = [line for line in card().splitlines() if line.startswith("| <code>T")]
    assert row.count("|") == 5


def test_check(card: Card, run_stage: RunStage, stage_refusal: StageRefusal) -> None:
    assert "make card" in stage_refusal("commands.card", "--check")
    card()
    assert run_stage("commands.card", "--check").returncode == 0
    write_json("metrics/eval/model_2.json", {"accuracy": 88.33, "images": 9_999, "undecided": 0, "never_predicted": []})
    assert "docs/model_card.md" in stage_refusal("commands.card", "--check")


def test_card_that_is_not_committed(card: Card, run_stage: RunStage, stage_refusal: StageRefusal) -> None:
    card()
    subprocess.run(["git", "init", "-q"], check=True)
    assert "not committed" in stage_refusal("commands.card", "--check")
    commit = ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "-qm", "Card", "--", "docs/model_card.md"]
    subprocess.run(["git", "add", "docs/model_card.md"], check=True)
    subprocess.run(commit, check=True)
    assert run_stage("commands.card", "--check").returncode == 0


@pytest.mark.usefixtures("results")
def test_trained_again_and_not_evaluated(stage_refusal: StageRefusal) -> None:
    """The parameters would be those of the new training, and the figures those of the old one."""
    lock = json.loads(Path("dvc.lock").read_text())
    lock["stages"]["train_model_2"]["outs"] = [{"path": "models/model_2.safetensors", "md5": "new"}]
    lock["stages"]["evaluate"] = {"deps": [{"path": "models/model_2.safetensors", "md5": "old"}]}
    Path("dvc.lock").write_text(json.dumps(lock) + "\n")
    assert "evaluate" in stage_refusal("commands.card")


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize("missing", ["metrics/compare.json", "plots/per_class.csv", "metrics/data.json"])
def test_missing_results(stage_refusal: StageRefusal, missing: str) -> None:
    Path(missing).unlink()
    assert missing in stage_refusal("commands.card")
