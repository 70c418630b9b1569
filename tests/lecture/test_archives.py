"""Zip archives that are good, damaged or hostile, from this machine and from a server on it."""

import io
import stat
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.lecture.archives import download_and_unpack
from stages.lib.base.errors import UserError

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
    """Starts a server that answers every request with the bytes given; gives the address of a zip file."""
    servers = []

    def start(body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://me:secret@127.0.0.1:{server.server_port}/data/food%20images.zip?token=secret"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


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


def assert_nothing_is_left() -> None:
    assert sorted(files_below(".")) == ["given.zip"]
    assert not Path("data/food").exists()


def test_an_archive_is_downloaded_and_unpacked_into_the_data_folder(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = download_and_unpack(serve(zipped(GOOD)), "food")
    assert folder == Path("data/food")
    assert files_below("data") == {"food/pizza/1.txt": b"one", "food/pizza/2.txt": b"two", "food/list.txt": b"three"}
    assert (folder / "empty").is_dir()
    assert "secret" not in "".join(capfd.readouterr())


def test_the_archive_is_kept_on_request(serve: Serve) -> None:
    archive = zipped(GOOD)
    download_and_unpack(serve(archive), "food", remove_archive=False)
    assert Path("data/food images.zip").read_bytes() == archive
    assert sorted(path.name for path in Path("data").iterdir()) == ["food", "food images.zip"]


def test_an_archive_of_the_users_own_is_not_removed(tmp_path: Path) -> None:
    assert files_below(unpack(GOOD))["list.txt"] == b"three"
    download_and_unpack((tmp_path / "given.zip").as_uri(), "nested/food", data_folder="elsewhere")
    assert len(files_below("elsewhere/nested/food")) == 3
    assert Path("given.zip").exists()


def test_a_folder_that_exists_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/food").mkdir(parents=True)
    assert download_and_unpack("http://127.0.0.1:1/never-asked.zip", "food") == Path("data/food")
    assert "data/food exists already" in capsys.readouterr().out
    Path("data/file").touch()
    with pytest.raises(UserError, match="data/file is not a folder"):
        download_and_unpack("given.zip", "file")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/x",
        "../x",
        "a/../../x",
        "a/..",
        "C:\\x",
        "C:/x",
        "c:x",
        "..\\x",
        "a\\..\\..\\x",
        "\\x",
        "\\\\host\\x",
        "//x",
    ],
)
def test_an_entry_that_would_land_outside_is_refused_before_anything_is_written(name: str) -> None:
    with pytest.raises(UserError, match=r"given\.zip: entry .* would land outside the folder; nothing is unpacked"):
        unpack({"good.txt": b"good", name: b"bad"})
    assert_nothing_is_left()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_are_refused_before_anything_is_written(kind: int) -> None:
    link = zipfile.ZipInfo("link")
    link.create_system = 3
    link.external_attr = (kind | 0o777) << 16
    with pytest.raises(UserError, match="'link' is a link or a special file"):
        unpack([("good.txt", b"good"), (link, b"/etc/passwd")])
    assert_nothing_is_left()


def test_backslashes_within_the_folder_separate() -> None:
    assert files_below(unpack({"a\\b\\": b"", "a\\b\\c.txt": b"c"})) == {"a/b/c.txt": b"c"}


def test_what_is_there_twice_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of writing such an archive
        twice = zipped([("a", b"1"), ("a", b"2")])
    with pytest.raises(UserError, match="'a' is there twice"):
        unpack(twice)
    for entries in ([("a", b"1"), ("a/b", b"2")], [("a/b", b"1"), ("a", b"2")]):
        with pytest.raises(UserError, match="is both a file and a folder"):
            unpack(list[tuple[str | zipfile.ZipInfo, bytes]](entries))
    assert_nothing_is_left()


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_decompression_bomb_is_stopped_by_the_bytes_that_come_out(compression: int) -> None:
    bomb = zipped({str(number): bytes(500_000) for number in range(10)}, compression)
    assert len(bomb) < 100_000
    with pytest.raises(UserError, match="unpacks to more than 4,000,000 bytes; if it may, raise max_bytes"):
        unpack(bomb, max_bytes=4_000_000)
    assert_nothing_is_left()
    assert len(files_below(unpack(bomb, max_bytes=5_000_000))) == 10


def test_a_header_that_understates_the_size_does_not_get_past_the_bound() -> None:
    size = (500_000).to_bytes(4, "little")
    lying = zipped({"a": bytes(500_000)}).replace(size, (5).to_bytes(4, "little"))
    with pytest.raises(UserError):
        unpack(lying, max_bytes=1000)
    assert_nothing_is_left()


def test_a_download_larger_than_allowed_is_broken_off(serve: Serve) -> None:
    with pytest.raises(UserError, match="more than 1,000 bytes came"):
        download_and_unpack(serve(bytes(5000)), "food", max_bytes=1000)
    assert files_below(".") == {}


@pytest.mark.parametrize("body", [b"", b"<html>not found</html>", zipped(GOOD)[:-30], zipped(GOOD)[30:]])
def test_what_is_no_zip_archive_is_said_so(body: bytes, serve: Serve) -> None:
    with pytest.raises(UserError, match=r"food%20images\.zip is no zip archive, damaged or encrypted") as caught:
        download_and_unpack(serve(body), "food")
    assert "secret" not in str(caught.value)
    assert files_below(".") == {}
    assert not Path("data/food").exists()


def test_a_source_that_is_not_there_is_said_so() -> None:
    for source, what in [
        ("absent.zip", "no such file"),
        ("ftp://host/a.zip", "no such file"),
        ("file://host/a.zip", "takes the whole path"),
        ("http://127.0.0.1:1/a.zip", "connection refused; check the address"),
        ("http://[::1/a.zip", "not a valid address; check the address"),
    ]:
        with pytest.raises(UserError, match=what):
            download_and_unpack(source, "food")
    assert files_below(".") == {}


def test_what_a_crash_left_behind_does_no_harm() -> None:
    Path("data/.food.tmp/pizza").mkdir(parents=True)
    Path("data/.food.tmp/pizza/1.txt").write_bytes(b"half")
    assert files_below(unpack(GOOD))["pizza/1.txt"] == b"one"
    assert [path.name for path in Path("data").iterdir()] == ["food"]


@settings(max_examples=300, deadline=None)
@given(
    compression=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    keep=st.floats(0.5, 1),
)
def test_a_damaged_archive_gives_a_user_error_or_its_files_and_nothing_else(
    compression: int, damage: list[tuple[float, int]], keep: float
) -> None:
    body = bytearray(zipped({"a/b.txt": b"text " * 50, "c": bytes(range(256))}, compression))
    for place, value in damage:
        body[int(place * len(body))] = value
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "given.zip").write_bytes(body[: int(keep * len(body))])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                folder = download_and_unpack(str(root / "given.zip"), "food", data_folder=root / "data")
            except UserError:
                assert sorted(files_below(root)) == ["given.zip"]
            else:
                assert set(root.iterdir()) == {root / "given.zip", root / "data"}
                assert list((root / "data").iterdir()) == [folder]
