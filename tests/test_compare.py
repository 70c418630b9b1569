"""The compare stage: the best model, what is more than chance, what it costs, and the words for it."""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from ruamel.yaml import YAML

from stages.compare import Outcome, balanced_accuracy, first_layers
from stages.lib.base.files import NOT_COUNTED, read_json, write_csv, write_json
from stages.lib.base.tensors import load_tensors, save_tensors
from stages.lib.learning.models import build_model, save_checkpoint
from stages.lib.results.summary import summary
from stages.lib.source.idx_sets import CLASS_NAMES
from tests.helpers import GREY_28, PROJECT, RunStage, SetParams, StageRefusal, file_names, model_params, no_images

Compare = Callable[[], dict[str, Any]]
IMAGES = 200
ARCHITECTURES = ("linear", "mlp", "tiny_vgg")
DECLARED = YAML(typ="safe").load(PROJECT / "dvc.yaml")["stages"]["compare"]
OUTPUTS = {
    next(iter(entry)) if isinstance(entry, dict) else entry
    for kind in ("outs", "metrics", "plots")
    for entry in DECLARED[kind]
}
LAYERS = {
    "linear": [("layers.1", "Linear", "", 7850, 7840), ("layers.2", "Linear", "", 110, 100)],
    "mlp": [("layers.1", "Linear", "", 7850, 7840), ("layers.3", "Linear", "", 110, 100)],
    "tiny_vgg": [("block_1.0", "Conv2d", "", 100, 70560), ("classifier.1", "Linear", "", 4910, 4900)],
}
LAYERS_HEADER = ["layer", "kind", "how", "parameters", "multiply_adds"]
CURVE = [(epoch, 1 / epoch, 70.0 + epoch, 2 / epoch, 71.0 + epoch) for epoch in (1, 2, 3)]
COLUMNS = ["epoch", "train_loss", "train_acc", "test_loss", "test_acc"]


def write_model(name: str, correct: Sequence[int], confidence: float = 0.82) -> None:
    """Write what the stages before this one write of a model that is right on the images numbered `correct`.

    It gives each prediction the same `confidence`: the higher that is, the higher the loss of a wrong one.
    """
    arch = ARCHITECTURES[int(name[-1]) % 3]
    accuracy = len(correct) / IMAGES * 100
    doubt = (1 - confidence) / 9
    loss = -(len(correct) * math.log(confidence) + (IMAGES - len(correct)) * math.log(doubt)) / IMAGES
    results = {"model_name": arch, "model_loss": loss, "model_acc": accuracy, "loss": loss, "accuracy": accuracy}
    write_json(f"metrics/eval/{name}.json", {**results, "correct": len(correct), "images": IMAGES})
    write_json(
        f"metrics/train/{name}.json",
        {"parameters": sum(row[3] for row in LAYERS[arch]), "watched": "test", "test_loss": loss},
    )
    write_csv(f"plots/curves/{name}.csv", COLUMNS, CURVE)
    write_csv(f"plots/layers/{name}.csv", LAYERS_HEADER, LAYERS[arch])
    write_behaviour(name, accuracy)
    probabilities_NK = torch.full((IMAGES, 10), doubt)
    probabilities_NK[:, 0] = confidence
    labels_N = torch.ones(IMAGES, dtype=torch.int64)
    labels_N[list(correct)] = 0
    write_predictions(name, probabilities_NK, labels_N)
    torch.manual_seed(42)
    model = build_model(arch, GREY_28, 10, 10)
    save_checkpoint(f"models/{name}.safetensors", model, name, model_params(arch), no_images())


def write_behaviour(name: str, accuracy: float) -> None:
    """Write into the table of all models that this one is right on 10 % fewer of the mirrored images."""
    path = Path("plots/behaviour.csv")
    others = [row for row in csv.reader(path.read_text().splitlines()) if row[0] != name] if path.exists() else []
    rows = [(name, "as they are", accuracy), (name, "mirrored", accuracy - 10)]
    write_csv(path, ["model", "images", "accuracy"], [*others[1:], *rows])


def write_predictions(name: str, probabilities_NK: torch.Tensor, labels_N: torch.Tensor) -> None:
    predictions = {"probabilities": probabilities_NK, "labels": labels_N}
    save_tensors(f"data/predictions/{name}.safetensors", predictions, {"name": name, "class_names": list(CLASS_NAMES)})


@pytest.fixture
def evaluated(workspace: Path) -> Path:
    """The workspace with model_0 right on 166 of 200 images, model_1 on 150, model_2 on 177."""
    write_json("metrics/data.json", {"source": "synthetic", "shape": [1, 28, 28]})
    write_model("model_0", range(166))
    write_model("model_1", range(150))
    write_model("model_2", range(177))
    return workspace


@pytest.fixture
def compare(evaluated: Path, run_stage: RunStage, drawn: dict[str, Figure]) -> Compare:
    """`compare()` runs the stage without rendering its pictures, and gives metrics/compare.json."""

    def run() -> dict[str, Any]:
        done = run_stage("compare")
        others = [line for line in done.stderr.splitlines() if "few test images" not in line]  # of eight classes, none
        assert (done.returncode, others) == (0, [])
        return read_json("metrics/compare.json")

    return run


def keep_models(*names: str) -> None:
    """Leave only these models in params.yaml."""
    yaml = YAML(typ="safe")
    params = yaml.load(Path("params.yaml"))
    others = {name for name in params if name.startswith("model_")} - {*names}
    yaml.dump({key: value for key, value in params.items() if key not in others}, Path("params.yaml"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in OUTPUTS}


def rows_of(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def test_declared_outputs_and_no_others(evaluated: Path, run_stage: RunStage) -> None:
    before = file_names(evaluated)
    run_stage("compare")
    assert file_names(evaluated) - before == OUTPUTS


def test_inputs_are_dependencies(evaluated: Path) -> None:
    data = {path for path in file_names(evaluated) if path.startswith(("data/", "metrics/", "plots/"))}
    assert all(any(path == dep or path.startswith(f"{dep}/") for dep in DECLARED["deps"]) for path in data)


def test_times_change_no_output(evaluated: Path, run_stage: RunStage) -> None:
    run_stage("compare")
    first = contents(evaluated)
    write_json("metrics/timing/model_0.json", {"train_seconds": 999.0})
    write_json("metrics/timing/inference.json", {"images_per_second": {"model_0": 1.0}})
    run_stage("compare")
    assert contents(evaluated) == first


def test_best_by_accuracy(compare: Compare) -> None:
    assert compare()["best"] == "model_2"
    best = read_json("metrics/best.json")
    assert best == {"model": "model_2", "accuracy": 88.5, "loss": read_json("metrics/eval/model_2.json")["loss"]}


def test_best_by_loss(compare: Compare, set_params: SetParams) -> None:
    set_params({"compare.by": "loss"})
    write_model("model_0", range(166), confidence=0.9999)
    write_model("model_2", range(177), confidence=0.9999999)  # wrong seldom, but then wholly sure
    assert compare()["best"] == "model_1"


def test_first_of_equals(compare: Compare) -> None:
    assert "equals" not in compare()
    write_model("model_1", range(177))
    comparison = compare()
    assert (comparison["best"], comparison["equals"]) == ("model_1", ["model_2"])


@pytest.mark.parametrize(("by", "best"), [("accuracy", "model_0"), ("loss", "model_1")])
def test_validation_images_choose(compare: Compare, set_params: SetParams, by: str, best: str) -> None:
    set_params({"compare.by": by})
    held_out = {
        "model_0": {"accuracy": 90.0, "loss": 0.3},
        "model_1": {"accuracy": 70.0, "loss": 0.2},
        "model_2": {"accuracy": 60.0, "loss": 0.4},
    }
    for name, validation in held_out.items():
        path = f"metrics/eval/{name}.json"
        write_json(path, read_json(path) | {"validation": validation})
    comparison = compare()
    assert (comparison["best"], comparison["chosen_on"]) == (best, "validation")
    # what is reported are still the test images
    assert read_json("metrics/best.json")["accuracy"] == comparison["models"][best]["accuracy"]
    assert comparison["models"]["model_0"]["accuracy"] == 83.0


def test_best_is_copied(compare: Compare) -> None:
    compare()
    assert Path("models/best.safetensors").read_bytes() == Path("models/model_2.safetensors").read_bytes()


def test_single_model(compare: Compare) -> None:
    keep_models("model_1")
    comparison = compare()
    assert (comparison["best"], comparison["pairs"]) == ("model_1", [])


def test_stray_files_are_no_models(evaluated: Path, compare: Compare) -> None:
    write_model("model_3", range(200))
    assert compare()["models"].keys() == {"model_0", "model_1", "model_2"}


def test_every_pair_once(compare: Compare) -> None:
    pairs = [(pair["first"], pair["second"]) for pair in compare()["pairs"]]
    assert pairs == [("model_0", "model_1"), ("model_0", "model_2"), ("model_1", "model_2")]


def test_verdict_names_the_better(compare: Compare) -> None:
    first_better, _, second_better = (pair["verdict"] for pair in compare()["pairs"])
    assert first_better == "model_0 is better than model_1"
    assert second_better == "model_2 is better than model_1"


def test_models_that_chance_could_separate(compare: Compare) -> None:
    # model_0 has 166 right and model_1 now 168, but on other images: 10 only the one, 12 only the other
    write_model("model_1", range(10, 178))
    pair = compare()["pairs"][0]
    assert (pair["only_first_right"], pair["only_second_right"]) == (10, 12)
    assert pair["p_value"] == pytest.approx(0.8318, abs=1e-4)
    assert pair["verdict"] == "model_0 and model_1 cannot be told apart"


def test_several_pairs_make_chance_likelier(compare: Compare) -> None:
    write_model("model_1", range(5, 166 + 15))  # 5 against 15: p = 0.041 alone
    pair = compare()["pairs"][0]
    assert pair["p_value"] < 0.05 < pair["p_value_holm"]
    assert pair["verdict"] == "model_0 and model_1 cannot be told apart"


def test_same_predictions(compare: Compare) -> None:
    write_model("model_1", range(166))
    pair = compare()["pairs"][0]
    assert (pair["p_value"], pair["verdict"]) == (1.0, "model_0 and model_1 cannot be told apart")


def test_intervals_hold_the_accuracy(compare: Compare) -> None:
    for row in compare()["models"].values():
        assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]


@pytest.mark.parametrize(("how", "parameters"), [(NOT_COUNTED, 7850), ("", 7849)])
def test_costs_not_known(compare: Compare, how: str, parameters: int) -> None:
    """A layer that cannot be counted, or a weight that is in no layer."""
    write_csv("plots/layers/model_0.csv", LAYERS_HEADER, [("gru", "GRU", how, parameters, 0), LAYERS["linear"][1]])
    comparison = compare()
    assert [row["multiply_adds"] for row in comparison["models"].values()] == [None, 7_940, 75_460]
    assert summary().splitlines()[2].split()[-3:] == ["-"] * 3  # nor times


def test_costs(compare: Compare) -> None:
    models = compare()["models"]
    assert [row["multiply_adds"] for row in models.values()] == [7_940, 7_940, 75_460]
    for name, row in models.items():
        assert row["file_bytes"] == len(Path(f"models/{name}.safetensors").read_bytes())


def test_calibration_error(compare: Compare) -> None:
    # every prediction is given at 82 %; model_0 is right on 83 %
    assert compare()["models"]["model_0"]["calibration_error_pct"] == pytest.approx(1.0, abs=1e-4)


def test_csv_equals_json(compare: Compare) -> None:
    models = compare()["models"]
    assert rows_of("plots/compare.csv") == [
        {key: str(value) for key, value in {"model": name, **row}.items()} for name, row in models.items()
    ]


def test_picture_of_changed_images(compare: Compare, drawn: dict[str, Figure]) -> None:
    compare()
    (axes,) = drawn["plots/behaviour.png"].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["as they are", "mirrored"]
    assert [np.asarray(line.get_xdata()).tolist() for line in axes.lines] == [[83, 73], [75, 65], [88.5, 78.5]]


def test_changed_images_of_other_models(evaluated: Path, stage_refusal: StageRefusal) -> None:
    write_csv("plots/behaviour.csv", ["model", "images", "accuracy"], [("model_0", "as they are", 83.0)])
    assert "plots/behaviour.csv" in stage_refusal("compare")


def test_recall_of_each_class(compare: Compare) -> None:
    compare()
    recalls = {(row["model"], row["class"]): float(row["recall_pct"]) for row in rows_of("plots/recall.csv")}
    assert len(recalls) == 3 * len(CLASS_NAMES)
    assert recalls["model_1", CLASS_NAMES[0]] == 100  # this model names no other class
    assert recalls["model_1", CLASS_NAMES[1]] == 0


def test_reliability_rows(compare: Compare) -> None:
    compare()
    assert [(row["model"], row["images"], row["accuracy_pct"]) for row in rows_of("plots/reliability.csv")] == [
        ("model_0", "200", "83.0"),
        ("model_1", "200", "75.0"),
        ("model_2", "200", "88.5"),
    ]


def test_curves_in_one_table(compare: Compare) -> None:
    compare()
    assert [tuple(row.values()) for row in rows_of("plots/curves.csv")] == [
        (name, *map(str, row)) for name in ("model_0", "model_1", "model_2") for row in CURVE
    ]
    assert list(rows_of("plots/curves.csv")[0]) == ["model", *COLUMNS]


def test_printed_verdicts(evaluated: Path, run_stage: RunStage, drawn: dict[str, Figure]) -> None:
    lines = run_stage("compare").stdout.splitlines()
    assert any(line.startswith("model_2 is better than model_1: only model_1 is right on 0") for line in lines)
    assert "best by accuracy on the test images: model_2" in lines
    assert max(map(len, lines)) <= 120


def shown_filters(drawn: dict[str, Figure]) -> list[str]:
    """Return what stands beside the filters: a text for each model."""
    return [text.get_text() for axes in drawn["plots/filters.png"].axes for text in axes.texts]


def test_filters_of_any_architecture(compare: Compare, drawn: dict[str, Figure]) -> None:
    compare()
    assert shown_filters(drawn) == [
        "model_0\nLinear\n10 of 10 units",
        "model_1\nLinear\n10 of 10 units",
        "model_2\nConv2d\n10 of 10 units",
    ]


@pytest.mark.parametrize(
    "layers",
    [
        [("layers.2", "Linear", "", 110, 100)],  # as if it began with Linear(10, 10): no picture
        [("flatten", "Flatten", "", 0, 0)],  # its weights are in no layer
    ],
)
def test_no_filters(compare: Compare, drawn: dict[str, Figure], layers: list[tuple[str, str, str, int, int]]) -> None:
    write_csv("plots/layers/model_0.csv", LAYERS_HEADER, layers)
    compare()
    assert [text.partition("\n")[0] for text in shown_filters(drawn)] == ["model_1", "model_2"]


def test_layer_with_a_number_for_a_name(compare: Compare, drawn: dict[str, Figure]) -> None:
    model, table = Path("models/model_2.safetensors"), Path("plots/layers/model_2.csv")
    weights, about = load_tensors(model)
    save_tensors(model, {name.replace("block_1.0.", "0."): values for name, values in weights.items()}, about)
    table.write_text(table.read_text().replace("block_1.0", "0").replace("classifier.1", "1.10"))
    compare()
    assert shown_filters(drawn)[-1] == "model_2\nConv2d\n10 of 10 units"


def unbalance() -> None:
    """Give model_0 a test set of which 195 images are of class 0, 4 of class 1, 1 of class 2; it answers 0 always."""
    labels_N = torch.zeros(IMAGES, dtype=torch.int64)
    labels_N[-5:-1], labels_N[-1] = 1, 2
    for name in ("model_0", "model_1", "model_2"):
        write_model(name, range(195))
        arrays, _ = load_tensors(f"data/predictions/{name}.safetensors")
        write_predictions(name, arrays["probabilities"], labels_N)


def test_balanced_accuracy_of_unequal_classes(compare: Compare) -> None:
    unbalance()
    write_json("metrics/data.json", {"source": "images", "data_set": "planets", "shape": [1, 28, 28]})
    rows = compare()["models"]
    assert rows["model_0"]["accuracy"] == 97.5
    assert rows["model_0"]["balanced_accuracy"] == pytest.approx(100 / 3)  # of the three classes that have images
    assert rows_of("plots/compare.csv")[0]["balanced_accuracy"].startswith("33.3")


def test_rare_classes_are_named(evaluated: Path, run_stage: RunStage, drawn: dict[str, Figure]) -> None:
    unbalance()
    done = run_stage("compare")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert f"{CLASS_NAMES[1]} (4), {CLASS_NAMES[2]} (1), {CLASS_NAMES[3]} (0)" in line
    assert CLASS_NAMES[0] not in line
    labels = [label.get_text() for label in drawn["plots/recall.png"].axes[0].get_yticklabels()]
    assert labels[2:4] == [CLASS_NAMES[2], f"{CLASS_NAMES[3]} (no images)"]


def test_no_balanced_accuracy_of_equal_classes() -> None:
    alike = Outcome(np.ones(4, bool), [], {"cat": 50.0, "dog": 100.0}, {"cat": 2, "dog": 2}, {})
    assert balanced_accuracy(alike) == {}


@pytest.mark.parametrize(("layer", "weights"), [("layers.1", (10, 3 * 8 * 8)), ("block_1.0", (10, 3, 5, 5))])
def test_filters_in_colour(evaluated: Path, layer: str, weights: tuple[int, ...]) -> None:
    write_json("metrics/data.json", {"source": "images", "shape": [3, 8, 8]})
    write_csv("plots/layers/model_0.csv", LAYERS_HEADER, [(layer, "any", "", 1, 1)])
    save_tensors("models/model_0.safetensors", {f"{layer}.weight": torch.ones(weights)}, {})
    _, filters = first_layers(["model_0"])["model_0"]
    assert filters.shape == (10, 3, *((8, 8) if len(weights) == 2 else (5, 5)))


def test_filters_are_the_weights(compare: Compare, drawn: dict[str, Figure]) -> None:
    keep_models("model_2")
    compare()
    torch.manual_seed(42)
    weights = build_model("tiny_vgg", GREY_28, 10, 10).get_parameter("block_1.0.weight").detach().numpy()
    shown = [np.asarray(axes.images[0].get_array()) for axes in drawn["plots/filters.png"].axes]
    assert all((picture == weights[unit, 0]).all() for unit, picture in enumerate(shown))


@pytest.mark.slow
def test_seven_models(evaluated: Path, run_stage: RunStage, set_params: SetParams) -> None:
    for number in range(3, 7):
        set_params({f"model_{number}": model_params().model_dump(exclude_none=True)})
        write_model(f"model_{number}", range(100 + number))
    assert run_stage("compare").returncode == 0
    assert len(read_json("metrics/compare.json")["pairs"]) == 21
    assert all(content for content in contents(evaluated).values())


@pytest.mark.parametrize(
    "missing",
    [
        "metrics/data.json",
        "metrics/eval/model_1.json",
        "metrics/train/model_1.json",
        "plots/curves/model_1.csv",
        "plots/layers/model_1.csv",
        "data/predictions/model_1.safetensors",
        "models/model_1.safetensors",
    ],
)
def test_missing_input(evaluated: Path, stage_refusal: StageRefusal, missing: str) -> None:
    (evaluated / missing).unlink()
    assert missing in stage_refusal("compare")


def test_predictions_of_another_model(evaluated: Path, stage_refusal: StageRefusal) -> None:
    folder = evaluated / "data/predictions"
    (folder / "model_1.safetensors").write_bytes((folder / "model_0.safetensors").read_bytes())
    assert "model_1.safetensors holds the predictions of model_0" in stage_refusal("compare")


@pytest.mark.parametrize("watched", ["test", "validation"])
def test_trained_and_not_evaluated_since(evaluated: Path, stage_refusal: StageRefusal, watched: str) -> None:
    """As `dvc repro -s train_model_1` and then `-s compare` have it: new curves beside old figures."""
    results = read_json("metrics/eval/model_1.json")
    write_json("metrics/eval/model_1.json", {**results, "validation": results})
    write_json(
        "metrics/train/model_1.json",
        {"parameters": 7_960, "watched": watched, "test_loss": results["model_loss"] * 1.001},
    )
    assert "metrics/eval/model_1.json is of another training" in stage_refusal("compare")


def test_predictions_for_other_images(evaluated: Path, stage_refusal: StageRefusal) -> None:
    write_predictions("model_1", torch.full((7, 10), 0.1), torch.zeros(7, dtype=torch.int64))
    line = stage_refusal("compare")
    assert "data/predictions/model_1.safetensors" in line
    assert "images" in line


@pytest.mark.parametrize("key", ["correct", "accuracy", "loss"])
def test_edited_metrics(evaluated: Path, stage_refusal: StageRefusal, key: str) -> None:
    results = read_json("metrics/eval/model_1.json")
    write_json("metrics/eval/model_1.json", {**results, key: results[key] * 1.01})
    line = stage_refusal("compare")
    assert "metrics/eval/model_1.json" in line
    assert key in line


def test_probability_too_small_for_a_float(compare: Compare) -> None:
    write_model("model_1", range(150), confidence=1 - 1e-16)
    probabilities_NK = torch.zeros(IMAGES, 10)
    probabilities_NK[:, 0] = 1
    write_predictions("model_1", probabilities_NK, load_tensors("data/predictions/model_1.safetensors")[0]["labels"])
    assert compare()["models"]["model_1"]["loss"] > 5


def test_logits_that_become_equal_probabilities(compare: Compare) -> None:
    probabilities_NK, labels_N = (
        load_tensors("data/predictions/model_1.safetensors")[0][key] for key in ("probabilities", "labels")
    )
    probabilities_NK[149, 1] = probabilities_NK[149, 0]  # its true class is 0, and by its logits the answer was 1
    write_predictions("model_1", probabilities_NK, labels_N)
    results = read_json("metrics/eval/model_1.json")
    write_json("metrics/eval/model_1.json", {**results, "correct": 149, "accuracy": 149 / IMAGES * 100})
    assert compare()["models"]["model_1"]["accuracy"] == 149 / IMAGES * 100
