import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.lib.base.errors import UserError
from stages.lib.source.folders import FolderCount, count_images, format_counts, image_files


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
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


def test_image_files_are_found_at_any_depth_in_sorted_order(photos: Path) -> None:
    found = [str(path.relative_to(photos)) for path in image_files(photos)]
    assert found == ["b.png", "bags/y.gif", "bags/z.bmp", "shirts/1.webp", "shirts/2.JPG", "shirts/old/x.jpeg"]


def test_each_folder_has_its_own_images_counted(photos: Path) -> None:
    assert count_images(photos) == [
        FolderCount(photos, folders=2, images=1),
        FolderCount(photos / "bags", folders=0, images=2),
        FolderCount(photos / "shirts", folders=1, images=2),
        FolderCount(photos / "shirts" / "old", folders=0, images=1),
    ]


def test_an_empty_folder_counts_as_one_folder_without_images(tmp_path: Path) -> None:
    assert count_images(str(tmp_path)) == [FolderCount(tmp_path, 0, 0)]
    assert image_files(str(tmp_path)) == []


def test_counts_are_laid_out_in_columns() -> None:
    counts = [FolderCount(Path("photos"), 2, 0), FolderCount(Path("photos/shirts"), 0, 60_000)]
    assert format_counts(counts).splitlines() == [
        "folders     images  in",
        "      2          0  photos",
        "      0     60,000  photos/shirts",
    ]


def test_a_loop_of_links_has_an_end(photos: Path) -> None:
    before = image_files(photos), count_images(photos)
    (photos / "shirts" / "again").symlink_to(photos, target_is_directory=True)
    (photos / "self.png").symlink_to(photos / "self.png")
    assert (image_files(photos), count_images(photos)) == before


def test_a_linked_image_is_found_and_a_link_to_nothing_is_not(photos: Path, tmp_path: Path) -> None:
    (photos / "linked.png").symlink_to(touch(tmp_path / "elsewhere.png"))
    (photos / "broken.png").symlink_to(tmp_path / "nothing.png")
    found = image_files(photos)
    assert photos / "linked.png" in found
    assert photos / "broken.png" not in found


def test_a_folder_given_as_a_link_is_looked_into(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos, target_is_directory=True)
    assert len(image_files(tmp_path / "link")) == 6


def test_a_pipe_or_a_folder_with_the_name_of_an_image_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    assert image_files(tmp_path) == []


@pytest.mark.parametrize("look", [image_files, count_images])
def test_what_is_no_folder_is_named(look: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing cannot be listed \(No such file or directory\)"):
        look(tmp_path / "missing")
    with pytest.raises(UserError, match=r"shirt.png cannot be listed \(Not a directory\)"):
        look(touch(tmp_path / "shirt.png"))


@pytest.mark.parametrize("look", [image_files, count_images])
def test_a_folder_below_that_cannot_be_listed_is_named(look: Any, photos: Path, locked: Path) -> None:
    with pytest.raises(UserError, match=r"shirts cannot be listed \(Permission denied\)"):
        look(photos)


def test_a_folder_below_that_cannot_be_listed_can_be_passed_over(photos: Path, locked: Path) -> None:
    errors: list[OSError] = []
    found = image_files(photos, errors.append)
    assert [path.name for path in found] == ["b.png", "y.gif", "z.bmp"]
    assert [error.filename for error in errors] == [str(locked)]


def test_the_folder_asked_for_is_never_passed_over(locked: Path) -> None:
    with pytest.raises(UserError, match="shirts cannot be listed"):
        image_files(locked, lambda error: None)
