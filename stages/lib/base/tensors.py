"""Tensors on disk: safetensors files with one JSON document as metadata.

No pickle, memory-mapped reading, and the same bytes for the same tensors. The metadata stands under one key: with
several keys safetensors 0.8 writes them in a random order. torch is imported only where torch tensors are asked for.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from stages.lib.base.errors import Outdated, UserError
from stages.lib.base.files import parse_json, replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

METADATA_KEY = "about"


def save_tensors(path: str | Path, tensors: "dict[str, Tensor]", about: dict[str, Any]) -> None:
    """Write `tensors` and the JSON document `about` to `path`.

    Raises:
        UserError: it cannot be written.
    """
    from safetensors.torch import save_file

    metadata = {METADATA_KEY: json.dumps(about, sort_keys=True, ensure_ascii=False, allow_nan=False)}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # a full disk, say, which is no OSError here
            raise UserError(f"{path} could not be written: {error}") from None


def load_tensors(path: str | Path) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Read torch tensors and the JSON document of a file. The tensors are memory-mapped: read when touched.

    Raises:
        UserError: the file is missing or damaged, or is not one that `save_tensors` wrote.
    """
    return _load(path, framework="pt")


def load_arrays(path: str | Path) -> "tuple[dict[str, NDArray[Any]], dict[str, Any]]":
    """Read a file as `load_tensors` does, as NumPy arrays and without importing torch.

    Raises:
        UserError: as `load_tensors`.
    """
    return _load(path, framework="np")


def _load(path: str | Path, framework: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        Path(path).open("rb").close()  # safetensors says "not found" of what it may not read
        with safe_open(path, framework=framework) as file:
            about = parse_json((file.metadata() or {})[METADATA_KEY])
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
    except FileNotFoundError:
        raise Outdated(path) from None
    except OSError as error:  # of safetensors, which does not name the file
        raise Outdated(path, f"cannot be read ({error})") from None
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Outdated(path, f"is damaged or no safetensors file of ours ({error})") from None
    return tensors, about
