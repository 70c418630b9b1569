"""A cell is a training of the stage with something changed."""

from pathlib import Path
from typing import Any

import pytest

from stages.lib.base.files import read_json, write_text
from tests.helpers import RunStage, RunStudy, SetParams, refusal, set_keys

CELL = "studies/seeds/cells/model_0-42.json"


@pytest.fixture(autouse=True)
def folder(studies: Path) -> Path:
    return studies


def test_cell_is_what_the_stages_get(run_study: RunStudy, run_stage: RunStage) -> None:
    assert run_stage("train", "model_0").returncode == 0
    run_study("cell", CELL, "model_0", "--seed", "42")
    trained, cell = read_json("metrics/train/model_0.json"), read_json(CELL)
    assert cell["parameters"] == trained["parameters"]
    # the training watches the test images: 32 + 32 + 13 of them
    assert cell["images"] == 77
    assert round(cell["accuracy"] / 100 * 77, 9) == cell["correct"]
    run_study("cell", "studies/seeds/cells/model_0-43.json", "model_0", "--seed", "43")
    assert read_json("studies/seeds/cells/model_0-43.json")["loss"] != cell["loss"]


def test_same_loss_as_evaluate(run_study: RunStudy, run_stage: RunStage) -> None:
    for name in ("model_0", "model_1", "model_2"):
        run_stage("train", name)
    run_stage("evaluate")
    run_study("cell", CELL, "model_0", "--seed", "42")
    evaluated, cell = read_json("metrics/eval/model_0.json"), read_json(CELL)
    assert (cell["loss"], cell["correct"]) == (evaluated["loss"], evaluated["correct"])


def test_another_architecture(run_study: RunStudy) -> None:
    run_study("cell", "studies/relu/cells/mlp_hidden-42.json", "model_1", "--arch", "mlp_hidden", "--seed", "42")
    run_study("cell", "studies/relu/cells/mlp-42.json", "model_1", "--arch", "mlp", "--seed", "42")
    hidden, mlp = (read_json(f"studies/relu/cells/{arch}-42.json") for arch in ("mlp_hidden", "mlp"))
    assert (hidden["arch"], hidden["made_from"]["model"]["arch"], mlp["arch"]) == ("mlp_hidden", "mlp_hidden", "mlp")
    assert hidden["loss"] != mlp["loss"]


@pytest.mark.parametrize(("images", "used"), [(50, 50), (1000, 330)])
def test_number_of_images(images: int, used: int, run_study: RunStudy) -> None:
    cell = f"studies/data_size/cells/model_0-{images}-42.json"
    run_study("cell", cell, "model_0", "--images", str(images), "--seed", "42")
    assert read_json(cell)["train_images"] == used


RECIPE = "studies/frontier/params.yaml"
RECIPE_CELL = ("studies/frontier/cells/residual_2k-42.json", "residual_2k", "--recipes", RECIPE, "--seed", "42")


def test_recipe_of_the_study(run_study: RunStudy) -> None:
    run_study("cell", *RECIPE_CELL)
    cell = read_json(RECIPE_CELL[0])
    about = cell["made_from"]["model"]
    assert (cell["model"], cell["arch"], about["optimizer"], about["epochs"]) == ("residual_2k", "residual", "adamw", 1)
    # 4 maps by 9 weights; a separable convolution; a classifier; scale and shift of 3 * 4 maps
    assert cell["parameters"] == 36 + 36 + 16 + 50 + 24


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"residual_2k.lr": -1}, "residual_2k.lr is -1"),
        ({"residual_2k.arch": "linear"}, "stages/architectures/linear.py"),
        ({"residual_2k": None}, "residual_2k is None"),
    ],
)
def test_wrong_recipe(changes: dict[str, Any], named: str, run_study: RunStudy) -> None:
    set_keys(Path(RECIPE), changes)
    assert named in refusal(run_study, "cell", *RECIPE_CELL)


def test_recipe_edited_meanwhile(run_study: RunStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.lib.learning.training import Training

    run = Training.run

    def edit(training: Training) -> Any:
        set_keys(Path(RECIPE), {"residual_2k.lr": 0.5})
        return run(training)

    monkeypatch.setattr(Training, "run", edit)
    assert f"residual_2k in {RECIPE}" in refusal(run_study, "cell", *RECIPE_CELL)


def test_test_images_are_looked_at_once(run_study: RunStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.lib.learning import training
    from studies import cell

    watched: list[int] = []

    def watch(params: Any, seed: int, train: Any, held_out: Any, precision: str) -> training.Training:
        watched.append(int((held_out.images_NCHW != train.images_NCHW[: len(held_out)]).sum()))
        return training.new_training(params, seed, train, held_out, precision)

    monkeypatch.setattr(cell, "new_training", watch)
    run_study("cell", CELL, "model_0", "--seed", "42")
    assert watched == [0]


def test_models_of_before(run_study: RunStudy) -> None:
    write_text("studies/models.yaml", "models:\n- {name: model_0, arch: mlp}\n")
    assert "studies/models.yaml" in refusal(run_study, "cell", CELL, "model_0", "--seed", "42")


def test_parameters_edited_meanwhile(
    run_study: RunStudy, set_params: SetParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.lib.learning.training import Training

    run = Training.run

    def edit(training: Training) -> Any:
        set_params({"model_0.lr": 0.5})
        return run(training)

    monkeypatch.setattr(Training, "run", edit)
    assert "model_0 in params.yaml" in refusal(run_study, "cell", CELL, "model_0", "--seed", "42")
    assert not Path(CELL).exists()
