"""Adding a model takes the steps that the README gives, for here they are taken from it and followed."""

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def code_blocks(language: str) -> list[str]:
    """The blocks of code in the README's section on adding a model."""
    section = Path("README.md").read_text(encoding="utf-8").split("\n## Add a model\n")[1].split("\n## ")[0]
    return [textwrap.dedent(code) for code in re.findall(rf"^ *```{language}\n(.*?)^ *```$", section, re.S | re.M)]


def add_stage(pipeline: str) -> str:
    """dvc.yaml after the steps 3 and 4."""
    start, end = pipeline.index("  train_model_2:\n"), pipeline.index("  evaluate:\n")
    stage = pipeline[start:end].replace("model_2", "model_3")
    rest = re.sub("(model_0 model_1 model_2)$", r"\1 model_3", pipeline[end:], flags=re.M)
    rest = re.sub(
        "^.*model_2.*\n",
        lambda line: line[0] if "model_1" in line[0] else line[0] + line[0].replace("model_2", "model_3"),
        rest,
        flags=re.M,
    )
    return pipeline[:end] + stage + rest


def test_a_new_model_takes_the_steps_of_the_readme_and_trains_alone(
    project: Path, shell: Callable[..., str], stages_run: Callable[[str], list[str]]
) -> None:
    (architecture,) = code_blocks("python")
    (block,) = code_blocks("yaml")
    Path("stages/architectures/resnet.py").write_text(architecture)
    with Path("params.yaml").open("a") as file:
        file.write("\n" + block)
    Path("dvc.yaml").write_text(add_stage(Path("dvc.yaml").read_text()))

    winner_before = Path("metrics/best.json").read_bytes()
    ran = stages_run(shell("dvc repro"))
    same_winner = Path("metrics/best.json").read_bytes() == winner_before
    assert ran == ["train_model_3", "evaluate", "compare"] + ([] if same_winner else ["confusion"])
    assert '"model_3": {' in Path("metrics/compare.json").read_text()
    assert "model_3" in Path("plots/compare.csv").read_text()
    shell("dvc status -q")
    # What the project demands of its stages holds for the new one.
    shell("python -m pytest -q -k 'not imports_only' tests/test_dependencies.py")
