"""What the result of a training was made from, to be kept with it."""

from pathlib import Path
from typing import Any

from stages.lib.base.files import sha256_of
from stages.lib.base.params import ARCHITECTURES, ModelParams

MODELS = Path("studies/models.yaml")  # which models there are, and of which architecture: for the matrix of each study
DATA = Path("metrics/data.json")  # which images there are, and the checksums of the files that they come from


def made_from(model_params: ModelParams, precision: str) -> dict[str, Any]:
    """Return what decides the result of a training, but for its seed and the number of its images."""
    return {
        "model": model_params.model_dump(exclude={"threads"}),  # a cell takes one thread, whatever the block says
        "precision": precision,
        "architecture": sha256_of(ARCHITECTURES / f"{model_params.arch}.py"),
        "data": sha256_of(DATA),
    }
