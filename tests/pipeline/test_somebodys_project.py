"""The tests pass in a project that somebody uses: they bring the lecture's parameters along where they need them."""

from pathlib import Path

import pytest

from tests.helpers import SetParams, Shell

pytestmark = pytest.mark.slow

# These read nothing that somebody changes: they bring parameters and results of their own, and do the same anywhere.
ELSEWHERE = [
    "commands/test_changes.py",
    "commands/test_draw_samples.py",
    "commands/test_explain.py",
    "commands/test_report.py",
    "commands/test_use_images.py",
    "commands/test_verify.py",
    "commands/test_walkthrough.py",
    "lecture",
    "lib/base/test_errors.py",
    "lib/base/test_files.py",
    "lib/base/test_inputs.py",
    "lib/base/test_tensors.py",
    "lib/base/test_timing.py",
    "lib/data",
    "lib/learning",
    "lib/results",
    "lib/source",
    "lib/test_photos.py",
    "lib/test_plots.py",
    "test_confusion.py",
    "test_evaluate.py",
    "test_fetch.py",
    "test_package.py",
    "test_predict.py",
    "test_prepare.py",
    "test_requirements.py",
    "test_train.py",
]


def test_fast_tests_pass_there(project: Path, shell: Shell, set_params: SetParams) -> None:
    """Another learning rate, a model more, and the branch of an experiment on top, with the results."""
    set_params({"model_0.lr": 0.05, "seed": 7, "confusion.samples": 4})
    shell("python -m stages.commands.add_model model_3 mlp && git add --all && git commit -qm 'A model more'")
    shell("dvc exp run --name wider -S model_3.hidden_units=20 && dvc exp branch wider wider")
    shell("git checkout -q . && git clean -qfd metrics plots && git checkout -q wider && dvc checkout -q")
    # With few examples of damaged files: those know nothing of parameters either.
    options = "-m 'not slow' -p no:cacheprovider -p no:xdist -o addopts=--import-mode=importlib"
    options += "".join(f" --ignore=tests/{path}" for path in ELSEWHERE)
    printed = shell(f"python -m pytest -q {options}", HYPOTHESIS_PROFILE="few")
    assert "passed" in printed.splitlines()[-1]
