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

import pooch
import pytest

from stages.lib.base.errors import UserError
from stages.lib.source.download import SourceError
from stages.lib.source.idx_sets import RawFile
from stages.lib.source.mirrors import NoMirrorReached, all_whole, check_whole, fetch_from_mirrors, mirrors_in_order
from tests.helpers import PROJECT
from tests.lib.source.server import NOBODY, Answer, Request, Serve

SMALL, LARGE = "labels.gz", "images.gz"
CONTENT = {LARGE: bytes(range(250)) * 200, SMALL: zlib.compress(b"labels" * 100) * 40}
FILES = tuple(
    RawFile(name, len(data), hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest())
    for name, data in CONTENT.items()
)
SIZES = {file.name: file.size for file in FILES}

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


def failure(fetch: Fetch, *mirrors: str) -> tuple[str, bool]:
    """The message of the error, and whether any mirror counts as reached."""
    with pytest.raises(UserError) as caught:
        fetch(*mirrors)
    return str(caught.value), not isinstance(caught.value, NoMirrorReached)


def good(request: Request) -> None:
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
    "500": (answering(500), "HTTP status 500"),
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_bad_mirror(
    kind: str, serve: Serve, fetch: Fetch, raw: Path, cache: Path, survived: Callable[[str], None]
) -> None:
    answer, what = BAD_ANSWERS[kind]
    message, reached = failure(fetch, serve(answer))
    assert re.search(f"{SMALL}: .*{what}", message)
    assert reached
    assert not raw.exists()
    assert list(cache.iterdir()) == []
    survived("mirror that answers badly")


def test_next_mirror(serve: Serve, folder: Path, fetch: Fetch, raw: Path, capfd: Output) -> None:
    bad = serve(answering(404))
    assert fetch(bad, "absent", NOBODY, str(folder), "never asked") == str(folder)
    assert all_whole(FILES, raw)
    lines = capfd.readouterr().err.splitlines()
    for mirror, what, line in zip((bad, "absent", NOBODY), ("404", "no such", "refused"), lines, strict=True):
        assert re.fullmatch(f"fetch: {re.escape(mirror)}: .*{what}.*; trying the next", line)


def test_first_good_mirror(serve: Serve, fetch: Fetch, raw: Path, capfd: Output) -> None:
    first = serve(good)
    assert fetch(first, "never asked") == first
    assert capfd.readouterr().err == ""
    assert sorted(path.name for path in raw.iterdir()) == sorted(SIZES)  # and no temporary file


def test_no_mirror_reached(fetch: Fetch, raw: Path) -> None:
    message, reached = failure(fetch, NOBODY, "absent", "file:///no/such/folder", "ftp://127.0.0.1/")
    assert not reached
    for part in (f"{NOBODY}: connection refused", "absent: no such", "file:///no/such/folder: no such", "ftp: is not"):
        assert part in message
    assert "FASHION_MNIST_MIRROR" in message
    assert "fetch.source=synthetic" in message
    assert "\n" not in message
    assert not raw.exists()


def test_one_bad_mirror_among_unreachable_ones(serve: Serve, fetch: Fetch) -> None:
    message, reached = failure(fetch, NOBODY, serve(answering(404)), NOBODY)
    assert reached
    assert message.count("connection refused") == 2


def test_no_mirror_given(fetch: Fetch) -> None:
    message, reached = failure(fetch)
    assert "none is given" in message
    assert reached  # there may be a network


IMPOSSIBLE = "gopher:x http:// http://[::1 http://host:99999/ https://.../ file://host/x file://[ ~nobody0/x a\0b"


@pytest.mark.parametrize("address", [*IMPOSSIBLE.split(" "), "x" * 5000])
def test_impossible_address(address: str, fetch: Fetch) -> None:
    _, reached = failure(fetch, address)
    assert not reached


def test_second_try(serve: Serve, fetch: Fetch, capfd: Output) -> None:
    asked: list[str] = []

    def at_the_second_try(request: Request) -> None:
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
    def only(name: str) -> Answer:
        return lambda request: request.reply(200 if request.name == name else 404, CONTENT[request.name])

    second = serve(only(LARGE))
    assert fetch(serve(only(SMALL)), second) == second


def test_download_cache(serve: Serve, fetch: Fetch, raw: Path) -> None:
    fetch(serve(good))
    for path in raw.iterdir():
        path.unlink()
    assert fetch(NOBODY) == "the download cache"
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
    message, _ = failure(fetch, serve(good))
    assert str(cache) in message
    assert "XDG_CACHE_HOME" in message
    assert not raw.exists()


def test_user_without_a_home(serve: Serve, fetch: Fetch, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("os.getuid", lambda: 123_456_789)  # as in a container
    message, _ = failure(fetch, serve(good))
    assert "XDG_CACHE_HOME" in message
    assert not raw.exists()


def test_logger_of_pooch_is_left_alone(serve: Serve, fetch: Fetch) -> None:
    before = pooch.get_logger().level
    fetch(serve(good))
    assert pooch.get_logger().level == before


def test_failure_leaves_the_target(serve: Serve, fetch: Fetch, raw: Path, folder: Path) -> None:
    raw.mkdir()
    (raw / SMALL).write_bytes(b"older")
    (folder / LARGE).unlink()
    failure(fetch, serve(answering(404)), str(folder))
    assert [(path.name, path.read_bytes()) for path in raw.iterdir()] == [(SMALL, b"older")]


def test_folder_as_mirror(folder: Path, fetch: Fetch, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    paths = (str(folder), f"{folder}/", folder.name, f"~/{folder.name}")
    for mirror in (*paths, f"file://{folder}", f"file://localhost{folder}/", folder.as_uri()):
        assert fetch(mirror) == mirror
        assert all_whole(FILES, raw)
        (raw / SMALL).unlink()


@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_web_address_with_folder_and_key(slash: str, serve: Serve, fetch: Fetch) -> None:
    paths: list[str] = []

    def note(request: Request) -> None:
        paths.append(request.path)
        good(request)

    fetch(serve(note) + "some folder" + slash + "?key=1#part")
    assert paths == [f"/some%20folder/{SMALL}?key=1", f"/some%20folder/{LARGE}?key=1"]


CHANGED = CONTENT[LARGE][:1000] + b"\1" + CONTENT[LARGE][1001:]


@pytest.mark.parametrize(
    ("content", "what"), [(CHANGED, "other content"), (b"short", "expected 50,000 bytes, got 5"), (None, "is missing")]
)
def test_wrong_file_in_a_folder(content: bytes | None, what: str, folder: Path, fetch: Fetch, raw: Path) -> None:
    if content is None:
        (folder / LARGE).unlink()
        os.mkfifo(folder / LARGE)  # no file: reading it would never end
    else:
        (folder / LARGE).write_bytes(content)
    message, reached = failure(fetch, str(folder))
    assert re.search(f"{LARGE}.* {what}", message)
    assert reached
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


def test_no_password_is_printed(serve: Serve, fetch: Fetch, cache: Path, capfd: Output) -> None:
    def secret(address: str, password: str = "secret") -> str:
        return address.replace("://", f"://me:{password}@")

    closed, bad = secret(NOBODY) + "?key=secret", serve(answering(500))
    printed = fetch(closed, secret(bad), secret(bad, "se/cr@et"), secret("ftp://host/"), secret(serve(good)))
    for path in cache.iterdir():
        path.unlink()
    printed += failure(fetch, closed, secret(bad))[0] + "".join(capfd.readouterr())
    assert "http://***@127.0.0.1" in printed
    assert "secret" not in printed
    assert "cr@et" not in printed


def test_looking_at_files_imports_no_network_library() -> None:
    code = (
        "import sys; from pathlib import Path; from stages.lib.source import idx_sets, mirrors;"
        "mirrors.all_whole(idx_sets.RAW_FILES, Path('absent')); print(*sys.modules)"
    )
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT, text=True).split()
    assert not {"requests", "urllib3", "pooch", "tqdm", "torch", "numpy", "pandas"} & set(loaded)
