"""Which image files are found below a folder."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.lib.base.errors import UserError
from stages.lib.source.folders import image_files


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "Fotos für 日本"
    for name in ("b.png", "shirts/2.JPG", "shirts/1.webp", "shirts/old/x.jpeg", "bags/y.gif", "bags/z.bmp"):
        touch(root / name)
    for name in ("notes.txt", "shirts/png", "shirts/._1.webp", ".thumbnails/1.png"):
        touch(root / name)
    return root


@pytest.fixture
def locked(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that may not be listed. File modes would not do: root may list everything."""
    folder = photos / "shirts"
    scandir = os.scandir

    def refuse(path: Any) -> Iterator[Any]:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return folder


def test_sorted_at_any_depth(photos: Path, tmp_path: Path) -> None:
    names = ["b.png", "bags/y.gif", "bags/z.bmp", "shirts/1.webp", "shirts/2.JPG", "shirts/old/x.jpeg"]
    assert image_files(str(photos)) == [photos / name for name in names]
    (tmp_path / "empty").mkdir()
    assert image_files(tmp_path / "empty") == []


def test_loop_of_links(photos: Path) -> None:
    before = image_files(photos)
    (photos / "shirts" / "again").symlink_to(photos, target_is_directory=True)
    (photos / "self.png").symlink_to(photos / "self.png")
    assert image_files(photos) == before


def test_links_to_images(photos: Path, tmp_path: Path) -> None:
    (photos / "linked.png").symlink_to(touch(tmp_path / "elsewhere.png"))
    (photos / "broken.png").symlink_to(tmp_path / "nothing.png")
    found = image_files(photos)
    assert photos / "linked.png" in found
    assert photos / "broken.png" not in found


def test_link_to_the_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos, target_is_directory=True)
    assert len(image_files(tmp_path / "link")) == 6


def test_pipe_and_folder_named_like_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    assert image_files(tmp_path) == []


def test_no_folder(tmp_path: Path) -> None:
    for path, why in [(tmp_path / "missing", "No such file"), (touch(tmp_path / "shirt.png"), "Not a directory")]:
        with pytest.raises(UserError, match=rf"{path.name} cannot be listed.*{why}"):
            image_files(path)


def test_locked_folder_below(photos: Path, locked: Path) -> None:
    with pytest.raises(UserError, match=r"shirts cannot be listed.*Permission denied"):
        image_files(photos)


def test_locked_folder_passed_over(photos: Path, locked: Path) -> None:
    errors: list[OSError] = []
    found = image_files(photos, errors.append)
    assert [path.name for path in found] == ["b.png", "y.gif", "z.bmp"]
    assert [error.filename for error in errors] == [str(locked)]


def test_locked_folder_asked_for(locked: Path) -> None:
    with pytest.raises(UserError, match="shirts cannot be listed"):
        image_files(locked, lambda error: None)
