"""Whole files or none."""

import csv
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

import pytest

from stages.lib.base import files
from stages.lib.base.tensors import save_tensors
from tests.helpers import PROJECT, refusal


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with files.replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert names(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("fault", [RuntimeError("boom"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_fault_keeps_the_old_file(tmp_path: Path, fault: BaseException) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(type(fault)), files.replacing(path) as temporary:  # noqa: PT012  # the fault is in the block
        temporary.write_text("half of the new")
        raise fault
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), files.replacing(path):
        pass
    assert path.read_text() == "old"


@pytest.mark.parametrize("left", ["folder", "file", "link"])
def test_leftover_of_a_crash_is_cleared(tmp_path: Path, left: str) -> None:
    path, leftover, elsewhere = tmp_path / "text.txt", tmp_path / ".text.txt.tmp", tmp_path / "elsewhere"
    if left == "folder":
        leftover.mkdir()
        (leftover / "text.txt").write_text("left behind by kill -9, and longer than what comes next")
        (leftover / ".tmpXYZ").touch()
    elif left == "file":
        leftover.write_text("left behind")
    else:
        elsewhere.write_text("stays")
        leftover.symlink_to(elsewhere)
    files.write_text(path, "next\n")
    assert path.read_text() == "next\n"
    assert not os.path.lexists(leftover)
    assert left != "link" or elsewhere.read_text() == "stays"


def test_killed_while_safetensors_writes(tmp_path: Path, survived: Callable[[str], None]) -> None:
    """It writes under a name of its own making first, which nobody would clear."""
    path = tmp_path / "model.safetensors"
    code = """
import signal, sys, torch
from resource import RLIMIT_CORE, RLIMIT_FSIZE, setrlimit
from stages.lib.base.tensors import save_tensors
setrlimit(RLIMIT_CORE, (0, 0))
setrlimit(RLIMIT_FSIZE, (1000, 1000))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the system kills it at byte 1001
save_tensors(sys.argv[1], {"weights": torch.zeros(1000)}, {})
"""
    killed = subprocess.run([sys.executable, "-Bc", code, str(path)], cwd=PROJECT, check=False)
    assert killed.returncode == -signal.SIGXFSZ
    assert not path.exists()
    assert names(tmp_path) == [".model.safetensors.tmp"]
    save_tensors(path, {}, {})
    assert names(tmp_path) == ["model.safetensors"]
    survived("kill -9 while safetensors writes")


class TestWhereItMayWrite:
    """Root may replace anything: a device, such as /dev/null, would be a file from then on."""

    @pytest.mark.parametrize("kind", ["pipe", "device", "folder", "socket", "loop"])
    @pytest.mark.parametrize("through_a_link", [False, True])
    def test_no_regular_file(
        self, tmp_path: Path, kind: str, through_a_link: bool, survived: Callable[[str], None]
    ) -> None:
        special = tmp_path / "special"
        make: dict[str, Callable[[], object]] = {
            "pipe": lambda: os.mkfifo(special),
            "device": lambda: os.mknod(special, stat.S_IFCHR | 0o666, os.makedev(1, 3)),
            "folder": special.mkdir,
            "socket": lambda: socket(AF_UNIX).bind(str(special)),
            "loop": lambda: special.symlink_to(special),
        }
        try:
            make[kind]()
        except PermissionError:
            pytest.skip("only root makes devices")
        path = tmp_path / "link" if through_a_link else special
        if through_a_link:
            path.symlink_to(special)
        before = special.lstat()
        assert str(path) in refusal(files.write_text, path, "new")
        assert special.lstat() == before
        survived("pipe, device or folder as output")

    def test_link_stays(self, tmp_path: Path) -> None:
        link, target = tmp_path / "here" / "report.html", tmp_path / "there" / "today.html"
        for file in (link, target):
            file.parent.mkdir()
        link.symlink_to("../there/today.html")
        for content in ("first", "second"):  # it leads to nothing, then to a file
            files.write_text(link, content)
            assert link.is_symlink()
            assert target.read_text() == content
        assert names(tmp_path / "here") + names(tmp_path / "there") == ["report.html", "today.html"]

    def test_link_into_a_cache_is_replaced(self, tmp_path: Path) -> None:
        """With `cache.type = symlink` outputs are links to write-protected files in DVC's cache, which must stay."""
        cached, output = tmp_path / "0123", tmp_path / "model.safetensors"
        cached.write_text("in the cache")
        cached.chmod(0o444)
        output.symlink_to(cached)
        files.write_text(output, "new")
        assert (output.read_text(), cached.read_text()) == ("new", "in the cache")


def test_text_in_a_new_folder(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "b" / "text.txt", "café\nline\n")
    assert (tmp_path / "a" / "b" / "text.txt").read_bytes() == b"caf\xc3\xa9\nline\n"


def test_json_keeps_order_and_digits(tmp_path: Path) -> None:
    path = f"{tmp_path}/data.json"
    value = {"z": 0.1 + 0.2, "a": 1e-300, "name": "café", "correct": 8341}
    files.write_json(path, value)
    text = '{\n  "z": 0.30000000000000004,\n  "a": 1e-300,\n  "name": "café",\n  "correct": 8341\n}\n'
    assert Path(path).read_text(encoding="utf-8") == text
    assert files.read_json(path) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_nan_and_infinity(tmp_path: Path, value: float) -> None:
    path = tmp_path / "data.json"
    files.write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"loss": value})
    assert files.read_json(path) == {"loss": 1.0}
    assert names(tmp_path) == ["data.json"]


def test_csv_keeps_digits(tmp_path: Path) -> None:
    rows = [(1, 0.1 + 0.2, 1e-300), (2, 1 / 3, 83.4301282051282)]
    files.write_csv(tmp_path / "curve.csv", ["epoch", "loss", "acc"], rows)
    content = (tmp_path / "curve.csv").read_bytes()
    assert content.startswith(b"epoch,loss,acc\n1,0.30000000000000004,1e-300\n")
    _, *read = csv.reader(content.decode().splitlines())
    assert [(int(epoch), float(loss), float(acc)) for epoch, loss, acc in read] == rows


def test_csv_quotes_fields(tmp_path: Path) -> None:
    rows = [["T-shirt, top", 'a "new" one']]
    files.write_csv(tmp_path / "names.csv", ["first", "second"], rows)
    assert list(csv.reader((tmp_path / "names.csv").read_text().splitlines()))[1:] == rows


def test_failing_rows_keep_the_old_csv(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    files.write_csv(path, ["epoch"], [[1]])
    with pytest.raises(ZeroDivisionError):
        files.write_csv(path, ["epoch"], ([1 // (2 - number)] for number in range(4)))
    assert path.read_text() == "epoch\n1\n"
    assert names(tmp_path) == ["curve.csv"]


def test_copy_replaces_the_target(tmp_path: Path) -> None:
    source, target = tmp_path / "model_1.safetensors", tmp_path / "best.safetensors"
    source.write_bytes(bytes(range(256)))
    target.write_bytes(b"the best before")
    files.copy(source, target)
    assert target.read_bytes() == bytes(range(256))


def test_copy_of_a_missing_file_keeps_the_target(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"the best before")
    with pytest.raises(FileNotFoundError):
        files.copy(tmp_path / "model_1.safetensors", tmp_path / "best.safetensors")
    assert (tmp_path / "best.safetensors").read_bytes() == b"the best before"
    assert names(tmp_path) == ["best.safetensors"]


def test_checksum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100_000))
    assert files.sha256_of(tmp_path / "a") == hashlib.sha256(bytes(100_000)).hexdigest()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "is missing"),
        (b"", "holds no JSON object"),
        (b'{"loss": 0.5', "holds no JSON object"),
        (b"\xff\xfe\x00", "holds no JSON object"),
        (b"[1, 2]", "holds no JSON object"),
        (b"null", "holds no JSON object"),
        (b"[" * 100_000, "holds no JSON object"),
        (b'{"loss": ' + b"9" * 10_000 + b"}", "holds no JSON object"),
        (b'{"loss": NaN}', "holds no JSON object"),
        (b'{"loss": -Infinity}', "holds no JSON object"),
    ],
    ids=["missing", "empty", "cut", "bytes", "list", "null", "deep", "huge-number", "nan", "infinity"],
)
def test_unusable_json(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "best.json"
    if content is not None:
        path.write_bytes(content)
    message = refusal(files.read_json, path)
    assert message.startswith(f"{path} {problem}")
    assert "`dvc repro`" in message


def test_names_in_json_cannot_command_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "compare.json"
    path.write_text(json.dumps({"best": "\x1b[2Jmodel_1", "models": [{"a\nb": "\u202ecoat", "größe": "Ähre 服 "}]}))
    mark = "\N{REPLACEMENT CHARACTER}"
    expected = {"best": f"{mark}[2Jmodel_1", "models": [{f"a{mark}b": f"{mark}coat", "größe": "Ähre 服 "}]}
    assert files.read_json(path) == expected


@pytest.mark.parametrize(
    "write",
    [
        lambda path: files.write_text(path, "text"),
        lambda path: files.write_json(path, {"a": 1}),
        lambda path: files.write_csv(path, ["a"], [[1]]),
    ],
    ids=["text", "json", "csv"],
)
def test_same_bytes_twice(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    write(tmp_path / "first")
    write(tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
