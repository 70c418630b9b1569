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

from stages.lib.errors import UserError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; move it to `path` if the block succeeds, delete it if the block fails."""
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
    """The sha256 sum of a file, as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object. To ask it for a key that is not there is a `UserError` that names key and file.

    Raises:
        UserError: the file is missing, or is not a JSON object.
    """

    class JSONObject(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            raise UserError(f"{path} lacks {key!r}; run `dvc repro` to make it again")

    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"), object_hook=JSONObject)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run `dvc repro` to make it") from None
    except (ValueError, RecursionError) as error:  # bad JSON and bad UTF-8
        raise UserError(f"{path} is not valid JSON ({error}); run `dvc repro` to make it again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold a JSON object; run `dvc repro` to make it again")
    return value
