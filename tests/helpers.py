"""What test files import: the project's root, types of the shared fixtures, and small functions.

Fixtures stand in conftest.py, which cannot be imported.
"""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
from packaging.version import Version
from ruamel.yaml import YAML

from stages.lib.base.errors import UserError
from stages.lib.base.params import ModelParams
from stages.lib.source.idx_sets import CLASS_NAMES

if TYPE_CHECKING:
    from stages.lib.data.datasets import Split

PROJECT = Path(__file__).parents[1]
GREY_28 = (1, 28, 28)  # the shape of an image of FashionMNIST

MakeSplit: TypeAlias = "Callable[..., Split]"
RunStage = Callable[..., CompletedProcess[str]]
RunStudy = Callable[..., None]
SetParams = Callable[[dict[str, Any]], None]
Shell = Callable[..., str]
StageRefusal = Callable[..., str]
StagesRun = Callable[[str], list[str]]


def model_params(arch: str = "linear", **changes: Any) -> ModelParams:
    """Return the lecture's hyperparameters for an architecture, with `changes`."""
    return ModelParams(arch=arch, **{"hidden_units": 10, "epochs": 3, "batch_size": 32, "lr": 0.1} | changes)


def no_images(class_names: tuple[str, ...] = CLASS_NAMES, shape: tuple[int, int, int] = GREY_28) -> "Split":
    """Return a split without an image: what `save_checkpoint` wants to know of the images of a training."""
    import torch

    from stages.lib.data.datasets import Split

    return Split(torch.zeros(0, *shape, dtype=torch.uint8), torch.zeros(0).long(), class_names, "synthetic")


def write_photos(folder: Path, per_class: int = 4, classes: Sequence[str] = ("Hose", "Kleid", "靴")) -> Path:
    """Write drawn garments as colour pictures of odd sizes: `folder/CLASS/N.jpg`, every other one a PNG."""
    from PIL import Image

    from stages.lib.source.canvas import blank_sheet
    from stages.lib.source.garments import GARMENTS

    rng = np.random.default_rng(len(classes))
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        sheet = blank_sheet(rng, per_class)
        GARMENTS[label % len(GARMENTS)](sheet)
        for number, image_HW in enumerate(sheet.photograph()):
            tint = [(label * 40 + 100 * channel) % 200 + 56 for channel in range(3)]
            colours = (image_HW[..., None] * np.array(tint) // 255).astype(np.uint8)
            picture = Image.fromarray(colours).resize((41 + 7 * number, 57 - 3 * (number % 9)))
            picture.save(folder / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    return folder


def zip_of(folder: Path, target: Path, envelope: str = "") -> Path:
    """Write the files of a folder into a zip, below the folder `envelope` if one is given."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, Path(envelope) / path.relative_to(folder))
    return target


def refusal(call: Callable[..., Any], *arguments: Any) -> str:
    """Return the one line of the `UserError` that `call(*arguments)` raises."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    (line,) = str(caught.value).splitlines()
    return line


def set_keys(path: Path, changes: dict[str, Any]) -> None:
    """Set keys of a YAML file, such as `model_1.lr`; its comments stay."""
    yaml = YAML()
    yaml.width = 1000
    tree = yaml.load(path)
    for name, value in changes.items():
        *blocks, key = name.split(".")
        block = tree
        for step in blocks:
            block = block[step]
        block[key] = value
    yaml.dump(tree, path)


def write_inputs(folder: Path, changes: dict[str, Any]) -> None:
    """Write what every stage reads: the lecture's params.yaml with `changes`, and the library versions as they are."""
    (folder / "params.yaml").write_bytes((PROJECT / "tests/lecture_params.yaml").read_bytes())
    set_keys(folder / "params.yaml", changes)
    libraries = tomllib.loads((PROJECT / "versions.toml").read_text())
    lines = [f'{library} = "{Version(version(library)).public}"\n' for library in libraries]
    (folder / "versions.toml").write_text("".join(lines))


def lock_training(output: Path, name: str, architecture: str, seed: int = 42, best: Path | None = None) -> None:
    """Write a dvc.lock: the model in `output` was trained with a seed and an architecture of this content."""
    entry = {
        "deps": [{"path": "stages/architectures/linear.py", "md5": hashlib.md5(architecture.encode()).hexdigest()}],
        "params": {"params.yaml": {"seed": seed}},
        "outs": [{"path": f"models/{name}.safetensors", "md5": hashlib.md5(output.read_bytes()).hexdigest()}],
    }
    stages: dict[str, Any] = {f"train_{name}": entry}
    if best:
        stages["compare"] = {"outs": [{"path": str(best), "md5": hashlib.md5(best.read_bytes()).hexdigest()}]}
    Path("dvc.lock").write_text(json.dumps({"stages": stages}) + "\n")


def run_process(stage: str, *arguments: str, folder: Path | None = None, **variables: str) -> CompletedProcess[str]:
    """Run `python -m stages.<stage>` in a process of its own, in `folder` or the current one."""
    return subprocess.run(
        [sys.executable, "-Bm", f"stages.{stage}", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **variables},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def file_names(folder: Path) -> set[str]:
    """Return the paths of all files in `folder`."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def read_curve(folder: Path, name: str) -> list[dict[str, float]]:
    """Read the curve of a model, one row for each epoch."""
    rows = csv.DictReader((folder / f"plots/curves/{name}.csv").read_text().splitlines())
    return [{key: float(value) for key, value in row.items()} for row in rows]


def start(command: str, environment: dict[str, str], stdout: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
    """Start a command in a process group of its own, as a terminal does: Ctrl-C reaches every process of the group."""
    return subprocess.Popen(
        command.split(),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def interrupt(process: "subprocess.Popen[str]", at: str) -> str:
    """Press Ctrl-C when the process that `start` gave prints `at`; return what it prints after that."""
    assert process.stdout is not None
    for line in process.stdout:
        if at in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    return process.stdout.read()
