"""The compare stage: the best model, what is more than chance, what it costs, and the words for it."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from ruamel.yaml import YAML

from stages.lib.learning.models import build_model
from stages.lib import plots
from stages.lib.learning.models import save_checkpoint
from stages.lib.source.fashion_mnist import CLASS_NAMES
from stages.lib.base.files import write_csv, write_json
from stages.lib.base.params import ModelParams
from stages.lib.base.tensors import load_tensors, save_tensors

RunStage = Callable[..., CompletedProcess[str]]
SetParams = Callable[[dict[str, Any]], None]
IMAGES = 200
ARCHITECTURES = ("linear", "mlp", "tiny_vgg")
DECLARED = YAML(typ="safe").load(Path(__file__).parents[1] / "dvc.yaml")["stages"]["compare"]
LAYERS = {
    "linear": [("layers.0", "Flatten", 0, 0), ("layers.1", "Linear", 7850, 7840), ("layers.2", "Linear", 110, 100)],
    "mlp": [("layers.0", "Flatten", 0, 0), ("layers.1", "Linear", 7850, 7840), ("layers.3", "Linear", 110, 100)],
    "tiny_vgg": [("block_1.0", "Conv2d", 100, 70560), ("classifier.1", "Linear", 4910, 4900)],
}


def write_model(folder: Path, name: str, right: Sequence[int], loss: float = 0.5, **more: Any) -> None:
    """Write what the stages before this one write of a model that is right on the images numbered `right`."""
    arch = ARCHITECTURES[int(name[-1]) % 3]
    correct = len(right)
    results = {"model_name": arch, "model_loss": loss, "model_acc": correct / IMAGES * 100, "loss": loss}
    results |= {"accuracy": correct / IMAGES * 100, "correct": correct, "images": IMAGES, **more}
    write_json(folder / f"metrics/eval/{name}.json", results)
    write_json(folder / f"metrics/train/{name}.json", {"parameters": 7_960, "watched": "test"})
    write_json(folder / f"metrics/timing/{name}.json", {"train_seconds": 12.5, "device": "cpu", "threads": 2})
    curve = [(epoch, 1 / epoch, 70.0 + epoch, 1 / epoch, 71.0 + epoch) for epoch in (1, 2, 3)]
    write_csv(folder / f"plots/curves/{name}.csv", ["epoch", "train_loss", "train_acc", "test_loss", "test_acc"], curve)
    write_csv(folder / f"plots/layers/{name}.csv", ["layer", "kind", "parameters", "multiply_adds"], LAYERS[arch])
    probabilities_NK = torch.full((IMAGES, 10), 0.02)
    probabilities_NK[:, 0] = 0.82
    labels_N = torch.ones(IMAGES, dtype=torch.int64)
    labels_N[list(right)] = 0
    predictions = {"probabilities": probabilities_NK, "labels": labels_N}
    save_tensors(folder / f"data/predictions/{name}.safetensors", predictions, {"name": name})
    torch.manual_seed(42)
    params = ModelParams(arch, hidden_units=10, epochs=3, batch_size=32, lr=0.1)
    save_checkpoint(folder / f"models/{name}.safetensors", build_model(arch, 10, 10), name, params, CLASS_NAMES)
    speeds = folder / "metrics/timing/inference.json"
    known = json.loads(speeds.read_text())["images_per_second"] if speeds.exists() else {}
    write_json(speeds, {"images_per_second": known | {name: 50_000.0}})


@pytest.fixture
def evaluated(workspace: Path) -> Path:
    """The workspace with model_0 right on 166 of 200 images, model_1 on 150, model_2 on 177."""
    write_json(workspace / "metrics/data.json", {"source": "synthetic"})
    write_model(workspace, "model_0", range(166), loss=0.47)
    write_model(workspace, "model_1", range(150), loss=0.68)
    write_model(workspace, "model_2", range(177), loss=0.32)
    return workspace


@pytest.fixture
def compare(evaluated: Path, run_stage: RunStage) -> Callable[..., dict[str, Any]]:
    """`compare("model_0", ...)` runs the stage, on all three models unless told, and gives metrics/compare.json."""

    def run(*names: str) -> dict[str, Any]:
        done = run_stage("compare", *(names or ("model_0", "model_1", "model_2")))
        assert done.returncode == 0, done.stderr
        value: dict[str, Any] = json.loads((evaluated / "metrics/compare.json").read_text())
        return value

    return run


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures by path, kept instead of rendered, which is the slow part."""
    kept: dict[str, Figure] = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: kept.update({str(path): figure}))
    return kept


def declared_outputs() -> set[str]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in DECLARED[kind]]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def contents(folder: Path) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in declared_outputs()}


Compare = Callable[..., dict[str, Any]]


def test_it_writes_exactly_what_dvc_yaml_declares(evaluated: Path, compare: Compare) -> None:
    before = {file for file in evaluated.rglob("*") if file.is_file()}
    compare()
    written = {str(file.relative_to(evaluated)) for file in evaluated.rglob("*") if file.is_file()} - {
        str(file.relative_to(evaluated)) for file in before
    }
    assert written == declared_outputs()


def test_every_data_file_it_reads_is_a_dependency(evaluated: Path, compare: Compare) -> None:
    given = {str(file.relative_to(evaluated)) for file in evaluated.rglob("*") if file.is_file()}
    declared = {dep for dep in DECLARED["deps"] if not dep.endswith(".py")}
    assert given - {"params.yaml"} == declared


def test_a_second_run_writes_the_same_bytes(evaluated: Path, compare: Compare) -> None:
    compare()
    first = contents(evaluated)
    compare()
    assert contents(evaluated) == first


def test_other_times_change_nothing_outside_metrics_timing(evaluated: Path, compare: Compare) -> None:
    compare()
    first = contents(evaluated)
    for name in ("model_0", "model_1", "model_2"):
        write_json(evaluated / f"metrics/timing/{name}.json", {"train_seconds": 999.0 * int(name[-1]) + 1})
    compare()
    changed = {path for path, content in contents(evaluated).items() if content != first[path]}
    assert changed == {"metrics/timing/speed.png"}


@pytest.mark.usefixtures("undrawn")
class TestTheBest:
    def test_is_the_one_with_the_highest_accuracy(self, evaluated: Path, compare: Compare) -> None:
        assert compare()["best"] == "model_2"
        best = json.loads((evaluated / "metrics/best.json").read_text())
        assert best == {"model": "model_2", "accuracy": 88.5, "loss": 0.32}

    def test_is_the_one_with_the_lowest_loss_when_asked_so(
        self, evaluated: Path, compare: Compare, set_params: SetParams
    ) -> None:
        set_params({"compare.by": "loss"})
        write_model(evaluated, "model_1", range(150), loss=0.1)
        assert compare()["best"] == "model_1"

    def test_of_equals_is_the_first(self, evaluated: Path, compare: Compare) -> None:
        write_model(evaluated, "model_1", range(177), loss=0.1)
        assert compare("model_1", "model_2")["best"] == "model_1"
        assert compare("model_2", "model_1")["best"] == "model_2"

    @pytest.mark.parametrize(("by", "best"), [("accuracy", "model_0"), ("loss", "model_1")])
    def test_is_chosen_on_the_validation_images_where_there_are_any(
        self, evaluated: Path, compare: Compare, set_params: SetParams, by: str, best: str
    ) -> None:
        set_params({"compare.by": by})
        held_out = {
            "model_0": {"accuracy": 90.0, "loss": 0.3},
            "model_1": {"accuracy": 70.0, "loss": 0.2},
            "model_2": {"accuracy": 60.0, "loss": 0.4},
        }
        for name, validation in held_out.items():
            path = evaluated / f"metrics/eval/{name}.json"
            write_json(path, json.loads(path.read_text()) | {"validation": validation})
        comparison = compare()
        assert (comparison["best"], comparison["chosen_on"]) == (best, "validation")
        # what is reported are still the test images
        assert (
            json.loads((evaluated / "metrics/best.json").read_text())["accuracy"]
            == (comparison["models"][best]["accuracy"])
        )
        assert comparison["models"]["model_0"]["accuracy"] == 83.0

    def test_is_copied(self, evaluated: Path, compare: Compare) -> None:
        compare()
        best, model_2 = (evaluated / f"models/{name}.safetensors" for name in ("best", "model_2"))
        assert best.read_bytes() == model_2.read_bytes()

    def test_is_the_only_model_there_is(self, compare: Compare) -> None:
        comparison = compare("model_1")
        assert (comparison["best"], comparison["pairs"]) == ("model_1", [])


@pytest.mark.usefixtures("undrawn")
class TestPairs:
    def test_every_two_models_are_compared_once(self, compare: Compare) -> None:
        pairs = [(pair["first"], pair["second"]) for pair in compare()["pairs"]]
        assert pairs == [("model_0", "model_1"), ("model_0", "model_2"), ("model_1", "model_2")]

    def test_a_clear_difference_names_the_better_whichever_comes_first(self, compare: Compare) -> None:
        assert compare("model_1", "model_2")["pairs"][0]["verdict"] == "model_2 is better than model_1"
        assert compare("model_2", "model_1")["pairs"][0]["verdict"] == "model_2 is better than model_1"

    def test_models_that_chance_could_separate_cannot_be_told_apart(self, evaluated: Path, compare: Compare) -> None:
        # model_0 has 166 right and model_1 now 168, but on other images: 10 only the one, 12 only the other
        write_model(evaluated, "model_1", range(10, 178))
        (pair,) = compare("model_0", "model_1")["pairs"]
        assert (pair["only_first_right"], pair["only_second_right"]) == (10, 12)
        assert pair["p_value"] == pytest.approx(0.8318, abs=1e-4)
        assert pair["verdict"] == "model_0 and model_1 cannot be told apart"

    def test_the_same_answers_cannot_be_told_apart(self, evaluated: Path, compare: Compare) -> None:
        write_model(evaluated, "model_1", range(166))
        (pair,) = compare("model_0", "model_1")["pairs"]
        assert (pair["p_value"], pair["verdict"]) == (1.0, "model_0 and model_1 cannot be told apart")


@pytest.mark.usefixtures("undrawn")
class TestTheTable:
    def test_intervals_hold_the_accuracy(self, compare: Compare) -> None:
        for row in compare()["models"].values():
            assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]

    def test_costs_are_those_of_the_layers_and_of_the_file(self, evaluated: Path, compare: Compare) -> None:
        models = compare()["models"]
        assert {name: row["multiply_adds"] for name, row in models.items()} == {
            "model_0": 7_940,
            "model_1": 7_940,
            "model_2": 75_460,
        }
        for name, row in models.items():
            assert row["file_bytes"] == len((evaluated / f"models/{name}.safetensors").read_bytes())

    def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy(self, compare: Compare) -> None:
        # every answer is given at 82 %; model_0 is right on 83 %
        assert compare()["models"]["model_0"]["calibration_error_pct"] == pytest.approx(1.0, abs=1e-4)

    def test_the_csv_has_the_same_figures_as_the_json(self, evaluated: Path, compare: Compare) -> None:
        models = compare()["models"]
        rows = list(csv.DictReader((evaluated / "plots/compare.csv").read_text().splitlines()))
        assert [{key: str(value) for key, value in row.items()} for row in rows] == [
            {"model": name} | {key: str(value) for key, value in row.items()} for name, row in models.items()
        ]

    def test_reliability_has_a_row_for_each_model_and_bin(self, evaluated: Path, compare: Compare) -> None:
        compare()
        rows = list(csv.DictReader((evaluated / "plots/reliability.csv").read_text().splitlines()))
        assert [(row["model"], row["images"], row["accuracy_pct"]) for row in rows] == [
            ("model_0", "200", "83.0"),
            ("model_1", "200", "75.0"),
            ("model_2", "200", "88.5"),
        ]

    def test_is_printed_with_the_verdicts(self, evaluated: Path, run_stage: RunStage) -> None:
        out = run_stage("compare", "model_0", "model_1", "model_2").stdout
        lines = out.splitlines()
        assert "Test images of synthetic:" in lines
        assert any(line.startswith("model_2") and " 88.50 " in line and " 75,460 " in line for line in lines)
        assert any(
            line.startswith("model_2 is better than model_1: only model_1 is right on 0 images") for line in lines
        )
        assert "best by accuracy on the test images: model_2" in lines
        assert max(map(len, lines)) <= 120


def filter_texts(drawn: dict[str, Figure]) -> list[str]:
    """What stands beside the filters: a text for each model."""
    return [text.get_text() for axes in drawn["plots/filters.png"].axes for text in axes.texts]


def test_first_layers_are_drawn_whatever_the_architecture(
    evaluated: Path, compare: Compare, undrawn: dict[str, Figure]
) -> None:
    compare()
    assert filter_texts(undrawn) == [
        "model_0\nLinear\n10 of 10 units",
        "model_1\nLinear\n10 of 10 units",
        "model_2\nConv2d\n10 of 10 units",
    ]


def test_a_first_layer_that_makes_no_picture_is_left_out(
    evaluated: Path, compare: Compare, undrawn: dict[str, Figure]
) -> None:
    table = evaluated / "plots/layers/model_0.csv"
    table.write_text(table.read_text().replace("layers.1,Linear,7850,7840\n", ""))  # as if it began with Linear(10, 10)
    compare()
    assert [text.partition("\n")[0] for text in filter_texts(undrawn)] == ["model_1", "model_2"]


def test_a_model_whose_weights_are_in_no_layer_is_left_out(
    evaluated: Path, compare: Compare, undrawn: dict[str, Figure]
) -> None:
    header = "layer,kind,parameters,multiply_adds\n"
    (evaluated / "plots/layers/model_0.csv").write_text(header + "flatten,Flatten,0,0\n")
    compare()
    assert [text.partition("\n")[0] for text in filter_texts(undrawn)] == ["model_1", "model_2"]


def test_a_layer_with_a_number_for_a_name_is_found_in_the_model(
    evaluated: Path, compare: Compare, undrawn: dict[str, Figure]
) -> None:
    model = evaluated / "models/model_2.safetensors"
    weights, about = load_tensors(model)
    save_tensors(model, {name.replace("block_1.0.", "0."): values for name, values in weights.items()}, about)
    table = evaluated / "plots/layers/model_2.csv"
    table.write_text(table.read_text().replace("block_1.0", "0").replace("classifier.1", "1.10"))
    compare("model_2")
    assert filter_texts(undrawn) == ["model_2\nConv2d\n10 of 10 units"]


def test_a_filter_is_drawn_as_it_stands_in_the_model(
    evaluated: Path, compare: Compare, undrawn: dict[str, Figure]
) -> None:
    compare("model_2")
    torch.manual_seed(42)
    weights = build_model("tiny_vgg", 10, 10).get_parameter("block_1.0.weight").detach().numpy()
    drawn = [np.asarray(axes.images[0].get_array()) for axes in undrawn["plots/filters.png"].axes]
    assert all((picture == weights[unit, 0]).all() for unit, picture in enumerate(drawn))


@pytest.mark.slow
def test_seven_models_are_compared_and_drawn(evaluated: Path, compare: Compare) -> None:
    for number in range(3, 7):
        write_model(evaluated, f"model_{number}", range(100 + number))
    comparison = compare(*(f"model_{number}" for number in range(7)))
    assert len(comparison["pairs"]) == 21
    assert all((evaluated / path).stat().st_size for path in declared_outputs())


@pytest.mark.parametrize(
    "missing",
    [
        "metrics/data.json",
        "metrics/eval/model_1.json",
        "metrics/train/model_1.json",
        "metrics/timing/model_1.json",
        "metrics/timing/inference.json",
        "plots/curves/model_1.csv",
        "plots/layers/model_1.csv",
        "data/predictions/model_1.safetensors",
        "models/model_1.safetensors",
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_a_missing_input_is_named_in_one_line_and_nothing_is_written(
    evaluated: Path, run_stage: RunStage, missing: str
) -> None:
    (evaluated / missing).unlink()
    done = run_stage("compare", "model_0", "model_1", "model_2")
    assert done.returncode == 1
    assert done.stderr.startswith("compare: ")
    assert missing in done.stderr
    assert done.stderr.count("\n") == 1
    assert not any((evaluated / path).exists() for path in declared_outputs())


@pytest.mark.usefixtures("undrawn")
def test_figures_that_lack_something_are_named_in_one_line(evaluated: Path, run_stage: RunStage) -> None:
    write_json(evaluated / "metrics/train/model_1.json", {})
    done = run_stage("compare", "model_0", "model_1")
    assert done.stderr == ("compare: metrics/train/model_1.json lacks 'parameters'; run `dvc repro` to make it again\n")


@pytest.mark.usefixtures("undrawn")
def test_predictions_of_another_model_are_refused(evaluated: Path, run_stage: RunStage) -> None:
    folder = evaluated / "data/predictions"
    (folder / "model_1.safetensors").write_bytes((folder / "model_0.safetensors").read_bytes())
    done = run_stage("compare", "model_0", "model_1")
    assert done.stderr == (
        "compare: data/predictions/model_1.safetensors holds the predictions of model_0, not model_1; "
        "run `dvc repro evaluate`\n"
    )


@pytest.mark.usefixtures("undrawn")
def test_predictions_for_other_images_are_refused(evaluated: Path, run_stage: RunStage) -> None:
    predictions = {"probabilities": torch.full((7, 10), 0.1), "labels": torch.zeros(7, dtype=torch.int64)}
    save_tensors(evaluated / "data/predictions/model_1.safetensors", predictions, {"name": "model_1"})
    done = run_stage("compare", "model_0", "model_1")
    assert done.stderr == (
        "compare: data/predictions/model_1.safetensors holds 7 predictions, not 200; run `dvc repro --force evaluate`\n"
    )


@pytest.mark.usefixtures("undrawn")
def test_a_model_that_was_not_evaluated_with_the_others_is_named(evaluated: Path, run_stage: RunStage) -> None:
    write_json(evaluated / "metrics/timing/inference.json", {"images_per_second": {"model_0": 1.0}})
    done = run_stage("compare", "model_0", "model_1")
    assert done.stderr == (
        "compare: metrics/timing/inference.json does not know model_1; run `dvc repro --force evaluate`\n"
    )
