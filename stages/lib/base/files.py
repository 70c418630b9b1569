"""Writing files so that a reader sees the old one or the new one, never a part.

Everything is written in a temporary folder beside its target and moved into place when it is whole. The folder's name
is always the same, so that a rerun after a crash clears what the crash has left. A folder, because libraries write
under names of their own making first, as safetensors does.
"""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.lib.base.errors import Outdated, UserError, printable

# In plots/layers, how: the multiply-adds of this layer, such as a GRU, are not known.
NOT_COUNTED = "multiply-adds not counted"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to; move it to `path` if the block succeeds, delete it if the block fails.

    A link stays, and the file that it leads to is replaced.

    Raises:
        UserError: there is something else than a regular file at `path`.
    """
    target = _target_of(Path(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.unlink(missing_ok=True)  # a file or a link of that name
    try:
        folder.mkdir()
        yield folder / target.name
        (folder / target.name).replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 with Unix line ends."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: dict[str, Any]) -> None:
    """Write `value` as indented JSON, keys in the order given. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file. Floats keep their full precision (`repr`), so that reading gives the same numbers."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def copy(source: str | Path, target: str | Path) -> None:
    """Copy the bytes of `source` to `target`."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def sha256_of(path: str | Path) -> str:
    """Return the sha256 checksum of a file, as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(content: bytes) -> str:
    """Return the checksum by which DVC knows a content, as hexadecimal digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file is missing, or does not hold a JSON object.
    """
    try:
        return parse_json(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Outdated(path) from None
    except (ValueError, RecursionError) as error:  # bad JSON and bad UTF-8
        raise Outdated(path, f"holds no JSON object ({error})") from None


def parse_json(text: str) -> dict[str, Any]:
    """Return the JSON object that `text` is, its texts printable: names of classes and models go to the terminal.

    Raises:
        ValueError, RecursionError: it is none, or holds NaN or infinity, which are not JSON.
    """
    value = _made_printable(json.loads(text, parse_constant=int))  # int("NaN") is a ValueError
    if not isinstance(value, dict):
        raise ValueError(f"but a {type(value).__name__}")
    return value


def _target_of(path: Path) -> Path:
    """Return the file to replace for `path`.

    Not one that is write-protected and that a link leads to: of this kind are the links that DVC makes into its cache
    with `cache.type = symlink`, and what lies in the cache must stay.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink() or (path.exists() and not path.is_file()):  # a loop of links; a device, a pipe, a folder
        raise UserError(f"{path} is no regular file and stays as it is; move it away, or name another file")
    return path if path.is_symlink() and target.exists() and not target.stat().st_mode & 0o222 else target


def _made_printable(value: Any) -> Any:
    match value:
        case str():
            return printable(value)
        case list():
            return [_made_printable(item) for item in value]
        case dict():
            return {printable(key): _made_printable(item) for key, item in value.items()}
    return value
