"""Which mirror is taken, what counts as whole, and the download cache."""

import hashlib
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pooch
import pytest

from stages.lib.base.errors import UserError
from stages.lib.source.download import SourceError
from stages.lib.source.fashion_mnist import RawFile
from stages.lib.source.mirrors import NoMirrorReached, all_whole, check_whole, fetch_from_mirrors, mirrors_in_order

SMALL, LARGE = "labels.gz", "images.gz"
CONTENT = {LARGE: bytes(range(250)) * 200, SMALL: zlib.compress(b"labels" * 100) * 40}
FILES = tuple(
    RawFile(name, len(data), hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest())
    for name, data in CONTENT.items()
)
SIZES = {file.name: file.size for file in FILES}

Answer = Callable[[Any], None]
Serve = Callable[[Answer], str]
Fetch = Callable[..., str]
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The download cache, empty; and no wait before the second try."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "Zwischenlager für 日本"))
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda seconds: None))
    return tmp_path / "Zwischenlager für 日本" / "fashion-mnist-dvc"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "rohe Daten für 日本"


@pytest.fixture
def fetch(raw: Path) -> Fetch:
    return lambda *mirrors: fetch_from_mirrors(FILES, mirrors, raw)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds all files."""
    folder = tmp_path / "Spiegel für 日本"
    folder.mkdir()
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)
    return folder


def good(request: Any) -> None:
    request.reply(200, CONTENT[request.name])


def answering(status: int) -> Answer:
    return lambda request: request.reply(status, b"no")


BAD_ANSWERS: dict[str, tuple[Answer, str]] = {
    "short": (lambda request: request.reply(200, CONTENT[request.name][:-1]), r"expected [\d,]+ bytes, got [\d,]+"),
    "empty": (lambda request: request.reply(200), r"expected [\d,]+ bytes, got 0"),
    "odd length": (lambda request: request.reply(200, b"x", Content_Length="many"), r"expected [\d,]+ bytes, got 1"),
    "web page": (lambda request: request.reply(200, b"<html>Log in first</html>"), r"expected [\d,]+ bytes, got 25"),
    "long": (lambda request: request.reply(200, CONTENT[request.name] + b"x"), r"more than [\d,]+ bytes"),
    "other content": (lambda request: request.reply(200, bytes(SIZES[request.name])), "other content"),
    "404": (answering(404), "HTTP status 404"),
    "500": (answering(500), "HTTP status 500"),
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_bad_mirror(
    kind: str, serve: Serve, fetch: Fetch, raw: Path, cache: Path, survived: Callable[[str], None]
) -> None:
    answer, what = BAD_ANSWERS[kind]
    with pytest.raises(UserError, match=rf"{SMALL}: .*{what}") as caught:
        fetch(serve(answer))
    assert not isinstance(caught.value, NoMirrorReached)
    assert not raw.exists()
    assert list(cache.iterdir()) == []
    survived("mirror that answers badly")


def test_next_mirror(serve: Serve, refusing: str, folder: Path, fetch: Fetch, raw: Path, capfd: Output) -> None:
    bad = serve(answering(404))
    assert fetch(bad, "absent", refusing, str(folder), "never asked") == str(folder)
    assert all_whole(FILES, raw)
    lines = capfd.readouterr().err.splitlines()
    for line, (mirror, what) in zip(
        lines, [(bad, "HTTP status 404"), ("absent", "no such"), (refusing, "refused")], strict=True
    ):
        assert re.fullmatch(rf"fetch: {re.escape(mirror)}: .*{what}.*; trying the next", line)


def test_first_good_mirror(serve: Serve, fetch: Fetch, raw: Path, capfd: Output) -> None:
    first = serve(good)
    assert fetch(first, "never asked") == first
    assert capfd.readouterr().err == ""
    assert sorted(path.name for path in raw.iterdir()) == sorted(SIZES)  # and no temporary file


def test_no_mirror_reached(refusing: str, tmp_path: Path, fetch: Fetch, raw: Path) -> None:
    absent = str(tmp_path / "absent")
    with pytest.raises(NoMirrorReached) as caught:
        fetch(refusing, absent, "file:///no/such/folder", "ftp://127.0.0.1/")
    message = str(caught.value)
    for mirror, what in [
        (refusing, "connection refused"),
        (absent, "no such folder"),
        ("file:///no/such/folder", "no such folder"),
        ("ftp://127.0.0.1/", "ftp: is not supported"),
    ]:
        assert f"{mirror}: {what}" in message
    assert "FASHION_MNIST_MIRROR" in message
    assert "fetch.source=synthetic" in message
    assert "\n" not in message
    assert not raw.exists()


def test_one_bad_mirror_among_unreachable_ones(serve: Serve, refusing: str, fetch: Fetch) -> None:
    with pytest.raises(UserError) as caught:
        fetch(refusing, serve(answering(404)), refusing)
    assert not isinstance(caught.value, NoMirrorReached)
    assert str(caught.value).count("connection refused") == 2


def test_no_mirror_given(fetch: Fetch) -> None:
    with pytest.raises(UserError, match="none is given") as caught:
        fetch()
    assert not isinstance(caught.value, NoMirrorReached)


IMPOSSIBLE = "http:// http:///x http://[::1 http://host:99999/ https://.../ file://host/x file://[ ~nobody0/x a\0b"


@pytest.mark.parametrize("address", [*IMPOSSIBLE.split(" "), "x" * 5000])
def test_impossible_address(address: str, fetch: Fetch) -> None:
    with pytest.raises(NoMirrorReached):
        fetch(address)


def test_second_try(serve: Serve, fetch: Fetch, capfd: Output) -> None:
    asked: list[str] = []

    def at_the_second_try(request: Any) -> None:
        asked.append(request.name)
        if asked.count(request.name) > 1:
            good(request)
        elif request.name == SMALL:
            request.reply(503, b"busy")
        else:
            request.reply(200, b"cut off", Content_Length=str(SIZES[LARGE]))

    fetch(serve(at_the_second_try))
    assert asked == [SMALL, SMALL, LARGE, LARGE]
    assert capfd.readouterr().err == ""


def test_whole_file_is_kept_for_the_next_mirror(serve: Serve, fetch: Fetch) -> None:
    asked: list[str] = []

    def only_small(request: Any) -> None:
        good(request) if request.name == SMALL else request.reply(404)

    def second(request: Any) -> None:
        asked.append(request.name)
        good(request)

    fetch(serve(only_small), serve(second))
    assert asked == [LARGE]


def test_download_cache(serve: Serve, refusing: str, fetch: Fetch, raw: Path) -> None:
    fetch(serve(good))
    for path in raw.iterdir():
        path.unlink()
    assert fetch(refusing) == "the download cache"
    assert all_whole(FILES, raw)


def test_damaged_file_in_the_cache(serve: Serve, fetch: Fetch, raw: Path, cache: Path) -> None:
    address = serve(good)
    fetch(address)
    for path in cache.iterdir():
        path.write_bytes(b"damaged")
    assert fetch(address) == address
    assert all_whole(FILES, raw)


def test_cache_that_cannot_be_written(serve: Serve, fetch: Fetch, raw: Path, cache: Path) -> None:
    cache.parent.touch()
    with pytest.raises(UserError, match=rf"{re.escape(str(cache))} .*XDG_CACHE_HOME"):
        fetch(serve(good))
    assert not raw.exists()


def test_logger_of_pooch_is_left_alone(serve: Serve, fetch: Fetch) -> None:
    before = pooch.get_logger().level
    fetch(serve(good))
    assert pooch.get_logger().level == before


def test_failure_leaves_the_target(serve: Serve, fetch: Fetch, raw: Path, folder: Path) -> None:
    raw.mkdir()
    (raw / SMALL).write_bytes(b"older")
    (folder / LARGE).unlink()
    with pytest.raises(UserError):
        fetch(serve(answering(404)), str(folder))
    assert [(path.name, path.read_bytes()) for path in raw.iterdir()] == [(SMALL, b"older")]


def test_folder_as_mirror(folder: Path, fetch: Fetch, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for mirror in (str(folder), f"{folder}/", folder.name, f"~/{folder.name}", f"file://{folder}", folder.as_uri()):
        assert fetch(mirror) == mirror
        assert all_whole(FILES, raw)
        (raw / SMALL).unlink()


@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_web_address_with_folder_and_key(slash: str, serve: Serve, fetch: Fetch) -> None:
    paths: list[str] = []

    def note(request: Any) -> None:
        paths.append(request.path)
        good(request)

    fetch(serve(note) + "some folder" + slash + "?key=1#part")
    assert paths == [f"/some%20folder/{SMALL}?key=1", f"/some%20folder/{LARGE}?key=1"]


def test_wrong_file_in_a_folder(folder: Path, fetch: Fetch, raw: Path) -> None:
    def pipe(path: Path) -> None:
        os.mkfifo(path)  # reading it would never end

    changed = CONTENT[LARGE][:1000] + b"\1" + CONTENT[LARGE][1001:]
    wrong: list[tuple[Callable[[Path], object], str]] = [
        (lambda path: path.write_bytes(changed), "other content"),
        (lambda path: path.write_bytes(b"short"), "expected 50,000 bytes, got 5"),
        (lambda path: None, "missing"),
        (pipe, "missing"),
    ]
    for make, what in wrong:
        (folder / LARGE).unlink(missing_ok=True)
        make(folder / LARGE)
        with pytest.raises(UserError, match=rf"{LARGE}.* {what}") as caught:
            fetch(str(folder))
        assert not isinstance(caught.value, NoMirrorReached)
    assert not raw.exists()


def test_both_checksums_are_checked(folder: Path) -> None:
    file = FILES[0]
    check_whole(folder / file.name, file)
    for wrong in (replace(file, sha256="0" * 64), replace(file, md5="0" * 32)):
        with pytest.raises(SourceError, match="other content"):
            check_whole(folder / file.name, wrong)


def test_mirror_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, expected in [(" b ", ["b", "a"]), ("", ["a", "b"])]:
        monkeypatch.setenv("FASHION_MNIST_MIRROR", value)
        assert mirrors_in_order(["a", "b", " "]) == expected
    monkeypatch.delenv("FASHION_MNIST_MIRROR")
    assert mirrors_in_order(["a", "b"]) == ["a", "b"]


def test_no_password_is_printed(serve: Serve, refusing: str, fetch: Fetch, cache: Path, capfd: Output) -> None:
    def secret(address: str, password: str = "secret") -> str:
        return address.replace("://", f"://me:{password}@")

    closed, bad = secret(refusing) + "?key=secret", serve(answering(500))
    printed = fetch(closed, secret(bad), secret(bad, "se/cr@et"), secret("ftp://host/"), secret(serve(good)))
    for path in cache.iterdir():
        path.unlink()
    with pytest.raises(UserError) as caught:
        fetch(closed, secret(bad))
    printed += str(caught.value) + "".join(capfd.readouterr())
    assert "http://***@127.0.0.1" in printed
    assert "secret" not in printed
    assert "cr@et" not in printed


def test_looking_at_files_imports_no_network_library() -> None:
    code = """
import sys
from pathlib import Path
from stages.lib.source import fashion_mnist, mirrors
mirrors.all_whole(fashion_mnist.RAW_FILES, Path("absent"))
print(*sys.modules)
"""
    project = Path(__file__).parents[3]
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True
    ).stdout
    assert not {"requests", "urllib3", "pooch", "tqdm", "torch", "numpy", "pandas"} & set(loaded.split())
