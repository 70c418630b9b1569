"""Measured times. They vary from run to run, so neither git nor DVC knows them.

Each file in `metrics/timing` says which models it is about, by checksum, and on which machine it was measured. A model
that DVC brought back from its cache, or that somebody else trained, has no time here.
"""

import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.lib.base.errors import UserError
from stages.lib.base.files import read_json, sha256_of, write_json
from stages.lib.base.params import Params, load_params

TIMING = Path("metrics/timing")


def write_timing(file: str, models: list[str], measured: dict[str, Any]) -> None:
    """Write `metrics/timing/<file>.json`: what was `measured`, with the checksums of `models` and the machine."""
    checksums = {name: sha256_of(_model_file(name)) for name in models}
    write_json(TIMING / f"{file}.json", {**measured, "model_sha256": checksums, "machine": machine()})


def train_seconds(name: str) -> float | None:
    """Return how long the model trained; None where that was not measured for this model file here."""
    timing = _read(name, name, lambda params: {"threads": params.threads(name)})
    return _number(timing.get("train_seconds"))


def images_per_second(name: str) -> float | None:
    """Return how fast the model classified the test images; None where that was not measured here."""
    timing = _read(
        "inference",
        name,
        lambda params: {"threads": params.train.threads, "batch_size": params.evaluate.batch_size},
    )
    speeds = timing.get("images_per_second")
    return _number(speeds.get(name)) if isinstance(speeds, dict) else None


def machine() -> str:
    """Describe this machine: processor, number of CPUs, operating system."""
    try:
        (processor,) = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[:1]
    except (OSError, ValueError):  # another system, or a processor that does not name itself
        processor = platform.processor() or "unknown processor"
    return f"{processor}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}"


def _read(file: str, name: str, settings_of: Callable[[Params], dict[str, int]]) -> dict[str, Any]:
    """Read a timing file if it is about the model file `name` and the settings as they are now, on this machine."""
    path = TIMING / f"{file}.json"
    if not path.is_file() or not _model_file(name).is_file():
        return {}
    try:
        now: dict[str, Any] = {"machine": machine(), **settings_of(load_params())}
    except UserError:  # somebody is editing params.yaml, or has removed the model there
        return {}
    timing = read_json(path)
    checksums = timing.get("model_sha256")
    same_model = isinstance(checksums, dict) and checksums.get(name) == sha256_of(_model_file(name))
    return timing if same_model and now == {key: timing.get(key) for key in now} else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _model_file(name: str) -> Path:
    return Path(f"models/{name}.safetensors")
