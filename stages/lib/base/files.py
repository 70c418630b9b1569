"""Writing files so that a reader sees the old one or the new one, never a part.

Everything is written under a temporary name beside its target and moved into place when it is whole. The temporary
name is always the same, so that a rerun after a crash overwrites what the crash left behind.
"""

import csv
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.lib.base.errors import Outdated


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to; move it to `path` if the block succeeds, delete it if the block fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file is missing, or does not hold a JSON object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Outdated(path) from None
    except (ValueError, RecursionError) as error:  # bad JSON and bad UTF-8
        raise Outdated(path, f"is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise Outdated(path, "does not hold a JSON object")
    return value
