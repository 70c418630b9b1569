"""Zip archives that are good, damaged or hostile, from this machine and from a server on it."""

import errno
import io
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.lib.base.errors import UserError
from stages.lib.source.archives import download_and_unpack
from tests.helpers import refusal
from tests.lib.source.server import NOBODY, serving

Serve = Callable[[bytes], str]
Entries = dict[str, bytes] | list[tuple[str | zipfile.ZipInfo, bytes]]

GOOD = {"pizza/1.txt": b"one", "pizza/2.txt": b"two", "empty/": b"", "list.txt": b"three"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(body)` starts a server that answers with these bytes; returns the address of a zip file."""
    with ExitStack() as servers:

        def start(body: bytes) -> str:
            address = servers.enter_context(serving(lambda request: request.reply(200, body)))
            return address.replace("://", "://me:secret@") + "data/food%20images.zip?token=secret"

        yield start


def zipped(entries: Entries, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(name, data)
    return file.getvalue()


def unpack(entries: Entries | bytes, **options: Any) -> Path:
    """Unpack an archive on this machine to data/food."""
    Path("given.zip").write_bytes(entries if isinstance(entries, bytes) else zipped(entries))
    return download_and_unpack("given.zip", "food", **options)


def files_below(folder: Path | str) -> dict[str, bytes]:
    folder = Path(folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(entries: Entries | bytes, **options: Any) -> str:
    """The line with which an archive is refused; nothing is left behind."""
    line = refusal(lambda: unpack(entries, **options))
    assert line.startswith("given.zip")
    assert sorted(files_below(".")) == ["given.zip"]
    assert not Path("data/food").exists()
    return line


def test_download(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    folder = download_and_unpack(serve(zipped(GOOD)), "food")
    assert folder == Path("data/food")
    assert files_below("data") == {"food/pizza/1.txt": b"one", "food/pizza/2.txt": b"two", "food/list.txt": b"three"}
    assert (folder / "empty").is_dir()
    assert "secret" not in "".join(capfd.readouterr())


def test_archive_is_kept_on_request(serve: Serve) -> None:
    archive = zipped(GOOD)
    download_and_unpack(serve(archive), "food", remove_archive=False)
    assert Path("data/food images.zip").read_bytes() == archive
    assert sorted(path.name for path in Path("data").iterdir()) == ["food", "food images.zip"]


def test_local_archive_is_not_removed() -> None:
    assert files_below(unpack(GOOD))["list.txt"] == b"three"
    archive = Path("given.zip").rename("Bilder für 日本.zip").absolute()
    for source, folder in [(str(archive), "nested/food"), (archive.as_uri(), "essen für 日本")]:
        download_and_unpack(source, folder, data_folder="elsewhere")
        assert len(files_below(f"elsewhere/{folder}")) == 3
    assert archive.exists()


def test_existing_folder_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/food").mkdir(parents=True)
    assert download_and_unpack(NOBODY + "never-asked.zip", "food") == Path("data/food")
    assert "[INFO] data/food directory exists, skipping download." in capsys.readouterr().out
    Path("data/file").touch()
    assert "data/file is not a folder" in refusal(download_and_unpack, "given.zip", "file")


OUTSIDE = r"/etc/x ../x a/../../x a/.. C:\x C:/x c:x ..\x a\..\..\x \x \\host\x //x"


@pytest.mark.parametrize("name", OUTSIDE.split())
def test_entry_outside_the_folder(name: str) -> None:
    assert "would land outside" in refused({"good.txt": b"good", name: b"bad"})


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files(kind: int) -> None:
    link = zipfile.ZipInfo("link")
    link.create_system = 3
    link.external_attr = (kind | 0o777) << 16
    assert "'link' is a link or a special file" in refused([("good.txt", b"good"), (link, b"/etc/passwd")])


def test_backslashes_separate_folders() -> None:
    assert files_below(unpack({"a\\b\\": b"", "a\\b\\c.txt": b"c"})) == {"a/b/c.txt": b"c"}


@pytest.mark.filterwarnings("ignore:Duplicate name")  # from writing such an archive
def test_entries_that_collide() -> None:
    assert "'a' is there twice" in refused([("a", b"1"), ("a", b"2")])
    assert "both a file and a folder" in refused([("a", b"1"), ("a/b", b"2")])
    assert "both a file and a folder" in refused([("a/b", b"1"), ("a", b"2")])


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_decompression_bomb(compression: int) -> None:
    bomb = zipped({str(number): bytes(500_000) for number in range(10)}, compression)
    assert len(bomb) < 100_000
    line = refused(bomb, max_bytes=4_000_000)
    assert "4,000,000 bytes" in line
    assert "max_bytes" in line
    assert len(files_below(unpack(bomb, max_bytes=5_000_000))) == 10


def test_header_with_a_smaller_size() -> None:
    size = (500_000).to_bytes(4, "little")
    refused(zipped({"a": bytes(500_000)}).replace(size, (5).to_bytes(4, "little")), max_bytes=1000)


def test_encrypted_archive() -> None:
    archive = bytearray(zipped({"a": b"1"}))
    for place in (archive.index(b"PK\1\2") + 8, archive.index(b"PK\3\4") + 6):  # where the flags stand
        archive[place] |= 1
    assert "entry 'a' is encrypted" in refused(bytes(archive))


def test_download_larger_than_allowed(serve: Serve) -> None:
    with pytest.raises(UserError, match="more than 1,000 bytes"):
        download_and_unpack(serve(bytes(5000)), "food", max_bytes=1000)
    assert files_below(".") == {}


@pytest.mark.parametrize("body", [b"", b"<html>not found</html>", zipped(GOOD)[:-30], zipped(GOOD)[30:]])
def test_no_zip_archive(body: bytes, serve: Serve) -> None:
    line = refusal(download_and_unpack, serve(body), "food")
    assert "food%20images.zip is no zip archive" in line
    assert "secret" not in line
    assert files_below(".") == {}
    assert not Path("data/food").exists()


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("absent.zip", "no such file"),
        ("ftp://host/a.zip", "ftp: is not supported"),
        ("file://host/a.zip", "takes the whole path"),
        (NOBODY + "a.zip", "connection refused; check the address"),
        ("http://[::1/a.zip", "not a valid address; check the address"),
    ],
)
def test_no_source(source: str, what: str) -> None:
    line = refusal(download_and_unpack, source, "food")
    assert line.startswith(f"{source}: ")
    assert what in line
    assert files_below(".") == {}


def test_rest_of_a_crash() -> None:
    Path("data/.food.tmp/pizza").mkdir(parents=True)
    Path("data/.food.tmp/pizza/1.txt").write_bytes(b"half")
    assert files_below(unpack(GOOD))["pizza/1.txt"] == b"one"
    assert [path.name for path in Path("data").iterdir()] == ["food"]


def test_full_disk_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(GOOD)
    assert not list(Path("data").iterdir())


@pytest.mark.filterwarnings("ignore")  # zipfile's, of what is odd about an archive
@settings(max_examples=300)
@given(
    compression=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    keep=st.floats(0.5, 1),
)
def test_damage_is_refused_or_harmless(compression: int, damage: list[tuple[float, int]], keep: float) -> None:
    body = bytearray(zipped({"a/b.txt": b"text " * 50, "c": bytes(range(256))}, compression))
    for place, value in damage:
        body[int(place * len(body))] = value
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "given.zip").write_bytes(body[: int(keep * len(body))])
        try:
            folder = download_and_unpack(str(root / "given.zip"), "food", data_folder=root / "data")
        except UserError:
            assert sorted(files_below(root)) == ["given.zip"]
        else:
            assert set(root.iterdir()) == {root / "given.zip", root / "data"}
            assert list((root / "data").iterdir()) == [folder]
