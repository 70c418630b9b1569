"""Folders and images, counted."""

from pathlib import Path

import pytest

from stages.lecture.walk import FolderCount, count_images, format_counts
from stages.lib.base.errors import UserError


def test_each_folder_is_counted(tmp_path: Path) -> None:
    for name in ("b.png", "shirts/2.JPG", "shirts/1.webp", "shirts/old/x.jpeg", "bags/y.gif", ".hidden/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert count_images(str(tmp_path)) == [
        FolderCount(tmp_path, folders=2, images=1),
        FolderCount(tmp_path / "bags", folders=0, images=1),
        FolderCount(tmp_path / "shirts", folders=1, images=2),
        FolderCount(tmp_path / "shirts" / "old", folders=0, images=1),
    ]


def test_empty_folder_with_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert count_images(tmp_path) == [FolderCount(tmp_path, 0, 0)]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing cannot be listed"):
        count_images(tmp_path / "missing")


def test_table() -> None:
    counts = [FolderCount(Path("photos"), 2, 0), FolderCount(Path("photos/shirts"), 0, 60_000)]
    assert format_counts(counts).splitlines() == [
        "folders     images  in",
        "      2          0  photos",
        "      0     60,000  photos/shirts",
    ]
