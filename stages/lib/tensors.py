"""Tensors on disk: safetensors files with one JSON document as metadata.

No pickle, memory-mapped reading, and the same bytes for the same tensors. The metadata stands under one key: with
several keys safetensors 0.8 writes them in a random order.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stages.lib.errors import UserError
from stages.lib.files import replacing

METADATA_KEY = "about"


def save_tensors(path: str | Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write `tensors` and the JSON document `about` to `path`."""
    metadata = {METADATA_KEY: json.dumps(about, sort_keys=True, ensure_ascii=False, allow_nan=False)}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the JSON document of a file. The tensors are memory-mapped: pages are read when touched.

    Raises:
        UserError: the file is missing or damaged, or is not one that `save_tensors` wrote.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[METADATA_KEY])
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run `dvc repro` to make it") from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged or no safetensors file of ours ({error}); run `dvc repro`") from None
    if not isinstance(about, dict):
        raise UserError(f"{path} does not say what it holds; run `dvc repro` to make it again")
    return tensors, about
