"""`use_images`: what it says of a folder or zip of images, and what it writes."""

import os
import re
import shutil
from pathlib import Path

import pytest

from stages.commands.use_images import warn_of_case
from stages.lib.base.params import load_params
from stages.lib.source.image_sets import checksum_of, find_images
from tests.helpers import RunStage, SetParams, StageRefusal, write_photos, zip_of
from tests.lib.source.server import serving

IMAGES_ZIP = os.environ.get("IMAGES_ZIP", "")  # planets: ten classes of 150 pictures each
COMMAND = "commands.use_images"


@pytest.fixture
def photos(workspace: Path) -> Path:
    return write_photos(workspace / "pets")


def test_params_are_written(photos: Path, run_stage: RunStage) -> None:
    before = Path("params.yaml").read_text()
    done = run_stage(COMMAND, "pets")
    assert done.returncode == 0
    fetch = load_params().fetch
    assert (fetch.source, fetch.images.name, fetch.images.path) == ("images", "pets", "pets")
    assert fetch.images.sha256 == checksum_of(find_images(photos))
    lost = set(before.splitlines()) - set(Path("params.yaml").read_text().splitlines())
    assert all("source" in line for line in lost)


def test_folders_are_listed_as_the_lecture_does(photos: Path, run_stage: RunStage) -> None:
    done = run_stage(COMMAND, "pets")
    assert "There are 3 directories and 0 images in 'pets'." in done.stdout
    assert "There are 0 directories and 4 images in 'pets: 靴'." in done.stdout
    for words in ("12 images", "41 to 62 pixels wide", "12 RGB", "3 classes: Hose, Kleid, 靴", "20%", "28 x 28"):
        assert words in done.stdout


def test_what_suits_the_images_is_proposed(photos: Path, run_stage: RunStage) -> None:
    command = run_stage(COMMAND, "pets").stdout.partition("dvc exp run")[2].partition("\n\n")[0]
    changes = dict(change.removeprefix("++").split("=") for change in re.findall("-S ([^ ]+)", command))
    assert changes.pop("prepare.image_size") == "56"  # the median of 57, 54, 55 and 62: nothing is made larger
    assert changes.pop("prepare.channels") == "3"
    recipe = {"optimizer": "adam", "lr": "0.003", "epochs": "6"}
    assert changes == {f"model_{n}.{key}": value for n in range(3) for key, value in recipe.items()}


def test_nothing_is_proposed_in_place_of_a_choice(photos: Path, run_stage: RunStage, set_params: SetParams) -> None:
    set_params({f"model_{number}.optimizer": "adam" for number in range(3)})
    set_params({"prepare.image_size": 32})
    done = run_stage(COMMAND, "pets")
    assert "dvc exp run" not in done.stdout
    assert "diverge" not in done.stderr


@pytest.mark.parametrize(("image_size", "channels", "warns"), [(28, 1, False), (32, 1, False), (32, 3, True)])
def test_steps_that_may_diverge(
    image_size: int, channels: int, warns: bool, photos: Path, run_stage: RunStage, set_params: SetParams
) -> None:
    set_params({"prepare.image_size": image_size, "prepare.channels": channels, "model_1.lr": 0.01})
    assert ("model_0, model_2 may diverge" in run_stage(COMMAND, "pets").stderr) is warns


def test_letters_that_pictures_lack(photos: Path, run_stage: RunStage) -> None:
    line = run_stage(COMMAND, "pets").stderr
    assert line.count("\n") == 1
    assert "boxes in the names 靴:" in line
    (photos / "靴").rename(photos / "Ähren Кот")
    assert "taken for classes" not in run_stage(COMMAND, "pets").stderr


def test_classes_that_differ_in_case_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Two people may have written the name of one class. (Not every file system can hold both folders.)"""
    warn_of_case(("Hose", "Kleid", "kleid"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("images: warning: Kleid and kleid are two classes")


def test_other_files_are_counted(photos: Path, run_stage: RunStage) -> None:
    for name in ("Hose/a.heic", "Kleid/b.HEIC", "labels.csv", "Hose/.DS_Store"):
        (photos / name).touch()
    assert "Passed over" in (printed := run_stage(COMMAND, "pets").stdout)
    assert printed.partition("Passed over")[2].splitlines()[0].endswith(": 2 .heic, 1 .csv")


def test_zip_from_a_server(photos: Path, run_stage: RunStage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    content = zip_of(photos, Path("pets.zip"), envelope="pets").read_bytes()
    with serving(lambda request: request.reply(200, content)) as address:
        done = run_stage(COMMAND, f"{address}cats.zip?key=secret")
        assert done.returncode == 0
        assert "key" in done.stderr
        assert "secret" not in done.stdout + done.stderr
        images = load_params().fetch.images
        assert (images.name, images.sha256) == ("cats", checksum_of(find_images(photos)))
        assert run_stage("fetch").returncode == 0
    assert [path.name for path in Path("data/raw").iterdir()] == ["images.zip"]


def test_broken_images_are_named(photos: Path, run_stage: RunStage) -> None:
    (photos / "Hose/0.jpg").write_text("hello")
    assert "Hose/0.jpg is no PNG" in run_stage(COMMAND, "pets").stderr
    content = (photos / "Kleid/2.jpg").read_bytes()
    (photos / "Kleid/2.jpg").write_bytes(content[: len(content) // 2])
    before = Path("params.yaml").read_text()
    done = run_stage(COMMAND, "pets")
    first, second = done.stderr.splitlines()
    assert "Kleid/2.jpg is damaged" in first
    assert "Hose/0.jpg" in second
    assert "2 images" in second
    assert (done.returncode, Path("params.yaml").read_text()) == (1, before)


def test_duplicates_and_leaks(workspace: Path, run_stage: RunStage) -> None:
    photos = workspace / "pets"
    for part, count in (("train", 5), ("test", 4)):
        write_photos(photos / part, count)
    shutil.rmtree(photos / "test")
    shutil.copytree(photos / "train", photos / "test")
    shutil.copy(photos / "train/Hose/0.jpg", photos / "train/Kleid/9.jpg")
    done = run_stage(COMMAND, "pets")
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert "train/Kleid/9.jpg is of another class than test/Hose/0.jpg" in lines[0]
    assert "train/Hose/0.jpg is in both sets, as test/Hose/0.jpg" in lines[1]
    assert "6 more images" in lines[-2]
    assert load_params().fetch.source == "images"


@pytest.mark.parametrize("parts", [("seg_train/seg_train", "seg_test/seg_test"), ("Training", "Test")])
def test_parts_that_are_taken_for_classes(parts: tuple[str, str], workspace: Path, run_stage: RunStage) -> None:
    for part in parts:
        write_photos(workspace / "pets" / part)
    shutil.copytree(workspace / "pets" / parts[0] / "Hose", workspace / "pets/several_garments")
    warning = run_stage(COMMAND, "pets").stderr
    test, train = sorted(part.split("/")[0] for part in parts)
    assert f"{test}, {train} are taken for classes, but all of them have folders Hose, Kleid, 靴" in warning


def test_folders_of_one_class_alone(photos: Path, run_stage: RunStage) -> None:
    write_photos(photos / "Hund", classes=("Dackel", "Pudel"))
    assert "taken for classes" not in run_stage(COMMAND, "pets").stderr


@pytest.mark.parametrize("path", ["absent", "params.yaml", "ftp://host/x.zip"])
def test_no_images(path: str, workspace: Path, stage_refusal: StageRefusal) -> None:
    assert path in stage_refusal(COMMAND, path)


@pytest.mark.skipif(not IMAGES_ZIP, reason="IMAGES_ZIP is not set")
@pytest.mark.slow
def test_real_photos(workspace: Path, run_stage: RunStage, set_params: SetParams) -> None:
    set_params({"prepare.image_size": 64, "prepare.channels": 3})
    set_params({"model_2.epochs": 2, "model_2.optimizer": "adam", "model_2.lr": 0.003})
    for stage in ((COMMAND, IMAGES_ZIP), ("fetch",), ("prepare",), ("train", "model_2")):
        done = run_stage(*stage)
        assert done.returncode == 0, done.stderr
    assert "1,200 images of planets" in done.stdout
    accuracy = float(done.stdout.split("Test accuracy: ")[-1].split("%")[0])
    assert accuracy > 60  # 10 by chance
