"""From cells to a table, a picture and a verdict; and whether that is about the project as it is now."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stages.lib.base.files import read_json, write_json, write_text
from stages.lib.base.params import load_params
from studies.record import made_from
from studies.results import read_seeds
from tests.helpers import RunStudy, SetParams, refusal, set_keys

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACCURACIES = {"model_0": (80.0, 84.0), "model_1": (70.0, 71.0)}


def write_cell(path: str, name: str, seed: int, accuracy: float, **more: Any) -> None:
    params = load_params()
    about = {
        "model": name,
        "arch": params.model(name).arch,
        "seed": seed,
        "train_images": 60_000,
        "data_set": "FashionMNIST",
    }
    scores = {
        "accuracy": accuracy,
        "loss": 0.5,
        "correct": 8_000,
        "images": 10_000,
        "chance": False,
    }
    write_json(path, {**about, **scores, "made_from": made_from(params.model(name), "float32"), **more})


@pytest.fixture(autouse=True)
def cells(studies: Path) -> None:
    """Cells with these accuracies; and one of a seed that the study has no more."""
    for name, accuracies in ACCURACIES.items():
        for seed, accuracy in zip((42, 43), accuracies, strict=True):
            write_cell(f"studies/seeds/cells/{name}-{seed}.json", name, seed, accuracy)
            for images, less in ((50, 20), (1000, 0)):
                path = f"studies/data_size/cells/{name}-{images}-{seed}.json"
                write_cell(path, name, seed, accuracy - less, train_images=images)
    write_cell("studies/seeds/cells/model_0-7.json", "model_0", 7, 10.0)


@pytest.fixture
def seeds_done(run_study: RunStudy, drawn: "dict[str, Figure]") -> dict[str, Any]:
    run_study("recipes", "seeds", "model")
    return read_json("studies/seeds/results.json")


def test_table(seeds_done: dict[str, Any]) -> None:
    rows = list(csv.DictReader(Path("studies/seeds/accuracies.csv").read_text().splitlines()))
    found = [(row["model"], row["seed"], float(row["accuracy"])) for row in rows]
    assert found == [("model_0", "42", 80), ("model_0", "43", 84), ("model_1", "42", 70), ("model_1", "43", 71)]


def test_results(seeds_done: dict[str, Any]) -> None:
    assert seeds_done["recipes"]["model_0"]["mean"] == 82
    (pair,) = seeds_done["pairs"]
    assert (pair["first_wins"], pair["p_value"], pair["mean_difference"]) == (2, 0.5, 11.5)


def test_a_training_that_fails_is_named(run_study: RunStudy, drawn: "dict[str, Figure]") -> None:
    write_cell("studies/seeds/cells/model_1-43.json", "model_1", 43, 10.0, chance=True)
    run_study("recipes", "seeds", "model")
    results = read_json("studies/seeds/results.json")
    assert results["recipes"]["model_1"]["failed"] == [43]
    assert results["sentences"][-1] == "model_1 learns nothing with the seed 43"


def test_picture(run_study: RunStudy, drawn: "dict[str, Figure]") -> None:
    run_study("recipes", "seeds", "model")
    (axes,) = drawn["studies/seeds/accuracies.png"].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["model_0", "model_1"]
    points = [sorted(np.asarray(each.get_offsets())[:, 0].tolist()) for each in axes.collections]
    assert points == [[80, 84], [70, 71]]


@pytest.mark.parametrize(("seeds", "words"), [([42, 43], "with the seeds 42 to 43"), ([7, 43], "with 2 seeds")])
def test_picture_says_which_seeds(
    seeds: list[int], words: str, run_study: RunStudy, drawn: "dict[str, Figure]"
) -> None:
    write_cell("studies/seeds/cells/model_1-7.json", "model_1", 7, 70.0)
    set_keys(Path("studies/seeds/params.yaml"), {"seeds": seeds})
    run_study("recipes", "seeds", "model")
    assert words in drawn["studies/seeds/accuracies.png"].get_suptitle()


def test_sizes(run_study: RunStudy, drawn: "dict[str, Figure]") -> None:
    run_study("sizes")
    few, many = read_json("studies/data_size/results.json")["sizes"]
    assert (few["train_images"], few["means"]["model_0"], many["means"]["model_0"]) == (50, 62, 82)
    assert few["best"] == "model_0"
    (axes,) = drawn["studies/data_size/accuracies.png"].axes
    assert axes.get_legend_handles_labels()[1] == ["model_0", "model_1"]


@pytest.fixture
def frontier_done(run_study: RunStudy, drawn: "dict[str, Figure]") -> dict[str, Any]:
    for seed, small, large in ((42, 90.0, 92.0), (43, 90.5, 94.0)):
        write_cell(f"studies/seeds/cells/model_0-{seed}.json", "model_0", seed, 80.0, parameters=7_960)
        write_cell(f"studies/seeds/cells/model_1-{seed}.json", "model_1", seed, 70.0, parameters=7_960)
        for name, parameters, accuracy in (("residual_2k", 2_000, small), ("residual_5k", 5_000, large)):
            about = {"model": name, "parameters": parameters}
            write_cell(f"studies/frontier/cells/{name}-{seed}.json", "model_0", seed, accuracy, **about)
    run_study("parameters")
    return read_json("studies/frontier/results.json")


def test_recipes_by_their_parameters(frontier_done: dict[str, Any]) -> None:
    small, large = frontier_done["recipes"].values()
    assert (small["parameters"], small["mean"], large["parameters"], large["mean"]) == (2_000, 90.25, 5_000, 93)
    rows = list(csv.DictReader(Path("studies/frontier/accuracies.csv").read_text().splitlines()))
    assert [(row["model"], row["seed"], float(row["accuracy"])) for row in rows][:2] == [
        ("residual_2k", "42", 90),
        ("residual_2k", "43", 90.5),
    ]


def test_record_within_a_limit(frontier_done: dict[str, Any]) -> None:
    # no recipe has as few as 10 parameters
    assert frontier_done["records"] == [{"most_parameters": 10_000, "recipe": "residual_5k", "mean": 93.0}]


def test_picture_of_the_frontier(frontier_done: dict[str, Any], drawn: "dict[str, Figure]") -> None:
    (axes,) = drawn["studies/frontier/accuracies.png"].axes
    assert axes.get_legend_handles_labels()[1] == ["this study, mean", "model_0, median of 2", "model_1, median of 2"]
    assert np.asarray(axes.lines[0].get_xydata()).tolist() == [[2_000, 90.25], [5_000, 93]]
    others = ["published: arXiv 2501.15547", "published: the data set's own table"]
    assert [text.get_text() for text in axes.texts] == others


def test_missing_cell(run_study: RunStudy) -> None:
    Path("studies/seeds/cells/model_1-43.json").unlink()
    assert "model_1-43.json" in refusal(run_study, "recipes", "seeds", "model")


def test_cells_of_other_parameters(run_study: RunStudy, set_params: SetParams) -> None:
    set_params({"model_1.lr": 0.5})
    write_cell("studies/seeds/cells/model_1-43.json", "model_1", 43, 71.0)
    assert "model_1" in refusal(run_study, "recipes", "seeds", "model")


@pytest.fixture
def without_model_2() -> None:
    lines = Path("params.yaml").read_text().split("model_2:")
    Path("params.yaml").write_text(lines[0] + lines[1][lines[1].index("\n\n") :])


def test_results_of_the_present_models(seeds_done: dict[str, Any], without_model_2: None) -> None:
    assert read_seeds() == seeds_done


@pytest.mark.parametrize("key", ["model_0.lr", "model_1.label_smoothing"])
def test_results_of_other_parameters(
    key: str, seeds_done: dict[str, Any], without_model_2: None, set_params: SetParams
) -> None:
    set_params({key: 0.01})
    assert read_seeds() is None


def test_results_do_not_depend_on_threads(
    seeds_done: dict[str, Any], without_model_2: None, set_params: SetParams
) -> None:
    set_params({"model_0.threads": 2, "confusion.samples": 4})
    assert read_seeds() == seeds_done


def test_results_of_other_images(seeds_done: dict[str, Any], without_model_2: None) -> None:
    write_text("metrics/data.json", '{"source": "fashion-mnist"}')
    assert read_seeds() is None


def test_results_of_fewer_models(seeds_done: dict[str, Any]) -> None:
    assert read_seeds() is None


def test_no_results_yet() -> None:
    assert read_seeds() is None


def test_published_figures_are_of_fashion_mnist(
    frontier_done: dict[str, Any], run_study: RunStudy, drawn: "dict[str, Figure]"
) -> None:
    for cell in Path("studies/frontier/cells").glob("*.json"):
        write_json(cell, read_json(cell) | {"data_set": "MNIST"})
    run_study("parameters")
    (axes,) = drawn["studies/frontier/accuracies.png"].axes
    assert not axes.texts
