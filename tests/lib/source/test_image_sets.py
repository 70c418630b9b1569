"""Folders and zips of images: what is found, what is refused, and what pins them."""

import shutil
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.lib.base.errors import UserError
from stages.lib.source.image_sets import (
    ImageFile,
    checksum_of,
    find_images,
    layout_of,
    name_of,
    opened,
    pack,
    packed_checksum,
)
from tests.helpers import refusal, write_photos, zip_of


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "pets")


@pytest.fixture
def split_photos(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        write_photos(tmp_path / "pets" / part)
    return tmp_path / "pets"


def names(folder: Path) -> list[str]:
    return [file.name for file in find_images(folder)]


def test_classes_side_by_side(photos: Path) -> None:
    found = names(photos)
    assert found[:4] == ["Hose/0.jpg", "Hose/1.png", "Hose/2.jpg", "Hose/3.png"]
    layout = layout_of(found)
    assert (layout.class_names, layout.is_split) == (("Hose", "Kleid", "靴"), False)
    assert layout.part_and_label("靴/0.jpg") == ("", 2)


def test_train_and_test(split_photos: Path) -> None:
    layout = layout_of(names(split_photos))
    assert (layout.class_names, layout.is_split) == (("Hose", "Kleid", "靴"), True)
    assert layout.part_and_label("test/Kleid/0.jpg") == ("test", 1)


@pytest.mark.parametrize("kind", ["photos", "split_photos"])
def test_folder_around_it_is_passed_through(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(kind)
    expected = names(folder)
    (tmp_path / "around/__MACOSX").mkdir(parents=True)
    folder.rename(tmp_path / "around/pets")
    assert names(tmp_path / "around") == expected


def test_folders_around_it(photos: Path, tmp_path: Path) -> None:
    expected = names(photos)
    (tmp_path / "around/sets").mkdir(parents=True)
    photos.rename(tmp_path / "around/sets/pets")
    assert names(tmp_path / "around") == expected
    shutil.copy(tmp_path / "around/sets/pets/Hose/0.jpg", tmp_path / "around")
    assert "0.jpg lies in no folder" in refusal(find_images, tmp_path / "around")


def test_zip_is_like_its_folder(photos: Path, tmp_path: Path) -> None:
    archive = zip_of(photos, tmp_path / "pets.zip", envelope="pets")
    with opened(str(archive), tmp_path / "unpacked") as folder:
        assert checksum_of(find_images(folder)) == checksum_of(find_images(photos))
    assert not (tmp_path / "unpacked").exists()


def test_sixty_classes(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "many", 2, [f"class {number}" for number in range(60)])
    assert len(layout_of(names(photos)).class_names) == 60


def test_other_files_are_passed_over(photos: Path) -> None:
    before = names(photos)
    for name in ("README.txt", "Hose/.0.jpg", "Hose/Thumbs.db"):
        (photos / name).write_text("no image")
    assert names(photos) == before


def test_packed_with_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(photos, tmp_path / "copy"))  # of another time
    (copy / "Hose/0.jpg").touch()
    one, other = (pack(find_images(folder), tmp_path / f"{folder.name}.zip") for folder in (photos, copy))
    assert one == other == checksum_of(find_images(photos)) == packed_checksum(tmp_path / "copy.zip")
    assert (tmp_path / "pets.zip").read_bytes() == (tmp_path / "copy.zip").read_bytes()


@pytest.mark.parametrize(
    "edit",
    [
        lambda photos: (photos / "Hose/0.jpg").rename(photos / "Hose/9.jpg"),
        lambda photos: (photos / "Hose/0.jpg").rename(photos / "Kleid/9.jpg"),
        lambda photos: (photos / "Hose/0.jpg").unlink(),
        lambda photos: (photos / "Hose/0.jpg").write_bytes(b"other"),
        lambda photos: shutil.copy(photos / "Hose/0.jpg", photos / "Hose/9.jpg"),
    ],
    ids=["renamed", "moved", "removed", "changed", "added"],
)
def test_every_change_changes_the_checksum(photos: Path, edit: Callable[[Path], object]) -> None:
    before = checksum_of(find_images(photos))
    edit(photos)
    assert checksum_of(find_images(photos)) != before


def test_checksum_is_that_of_any_system(tmp_path: Path) -> None:
    """macOS writes the letters of a name in another way than Linux does."""
    sums = set()
    for form in ("NFC", "NFD"):
        photos = write_photos(tmp_path / form, 2, [unicodedata.normalize(form, name) for name in ("Jäger", "Hose")])
        sums.add(checksum_of(find_images(photos)))
    assert len(sums) == 1


def link_folder(photos: Path) -> None:
    (photos / "Rock").symlink_to(photos / "Hose")


def remove(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda photos: (photos / "Rock").mkdir(), "Rock is a class without an image"),
        (link_folder, "Rock is a link"),
        (lambda photos: shutil.copy(photos / "Hose/0.jpg", photos / "0.jpg"), "0.jpg lies in no folder"),
        (lambda photos: remove(photos / "Hose", photos / "靴"), "one class alone, Kleid"),
        (
            lambda photos: [(photos / f"Hose/{name}").unlink() for name in ("0.jpg", "1.png", "2.jpg")],
            "Hose has one image",
        ),
        (lambda photos: remove(*photos.iterdir()), "no images"),
        (lambda photos: [*map(shutil.rmtree, photos.iterdir()), (photos / "in.zip").touch()], "unpack "),
        (lambda photos: (photos / "Hose").rename(photos / "Hose "), "'Hose ' has a space"),
        (lambda photos: (photos / "Hose/0.jpg").rename(photos / "Hose/a\nb.jpg"), "cannot be printed"),
        (lambda photos: (photos / "Hose/0.jpg").write_bytes(b""), "Hose/0.jpg is empty"),
    ],
    ids=[
        "empty class",
        "link",
        "no class",
        "one class",
        "one image",
        "nothing",
        "zip in it",
        "space",
        "line break",
        "empty file",
    ],
)
def test_refused(photos: Path, edit: Callable[[Path], object], words: str) -> None:
    edit(photos)
    assert words in refusal(lambda: checksum_of(find_images(photos)))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda photos: shutil.rmtree(photos / "test/Hose"), "test has no image of the class Hose"),
        (lambda photos: shutil.copytree(photos / "test", photos / "validation"), "there is validation"),
    ],
)
def test_refused_parts(split_photos: Path, edit: Callable[[Path], object], words: str) -> None:
    edit(split_photos)
    assert words in refusal(find_images, split_photos)


@pytest.mark.parametrize(("train", "test"), [("train", "val"), ("Train", "Test"), ("training", "test")])
def test_parts_by_other_names(train: str, test: str, split_photos: Path) -> None:
    for old, new in (("train", train), ("test", test)):
        (split_photos / old).rename(split_photos / new)
    assert "rename the folders" in refusal(find_images, split_photos)


@pytest.mark.parametrize("name", ["../out.jpg", "/out.jpg", "a/../../out.jpg"])
def test_zip_that_leaves_its_folder(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(UserError, match="would land outside"), opened(str(tmp_path / "bad.zip"), tmp_path / "unpacked"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]


def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.lib.source.image_sets.MOST_BYTES", 1_000_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.bmp", bytes(50_000_000))
    with pytest.raises(UserError, match="unpacks to more"), opened(str(tmp_path / "bomb.zip"), tmp_path / "unpacked"):
        pass


def test_error_in_a_zip_names_the_zip(photos: Path, tmp_path: Path) -> None:
    (photos / "Rock").mkdir()
    archive = str(zip_of(photos, tmp_path / "pets.zip"))
    with pytest.raises(UserError) as caught, opened(archive, tmp_path / "unpacked") as folder:
        find_images(folder)
    assert str(caught.value).startswith(f"{archive}: Rock ")
    shutil.rmtree(photos)
    archive = str(zip_of(photos, tmp_path / "empty.zip"))
    with pytest.raises(UserError) as caught, opened(archive, tmp_path / "unpacked") as folder:
        find_images(folder)
    assert str(caught.value).startswith(f"{archive} holds no images")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("../pets.zip", "pets"),
        ("/srv/my pets/", "my pets"),
        ("https://me:secret@example.org/a%20b.zip?key=secret", "a b"),
        ("https://example.org/", "images"),
    ],
)
def test_name(source: str, name: str) -> None:
    assert name_of(source) == name


def test_names_with_a_damaged_pack(tmp_path: Path) -> None:
    assert packed_checksum(tmp_path / "absent.zip") is None
    (tmp_path / "damaged.zip").write_bytes(b"PK")
    assert packed_checksum(tmp_path / "damaged.zip") is None
    assert pack([ImageFile("a/1.jpg", write_photos(tmp_path / "pets") / "Hose/0.jpg")], tmp_path / "good.zip")
