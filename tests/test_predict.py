"""What `python -m stages.predict` prints, draws and refuses."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages import predict
from stages.lib.base.tensors import load_tensors, save_tensors
from stages.lib.learning.models import build_model, save_checkpoint
from stages.lib.source.idx_sets import CLASS_NAMES
from tests.helpers import GREY_28, PROJECT, RunStage, StageRefusal, lock_training, model_params, no_images, run_process

Run = Callable[..., CompletedProcess[str]]


def save_model(path: Path, scale: float = 20.0) -> None:
    """Save a model that finds a T-shirt where the upper half is the lighter one, and an ankle boot where the lower."""
    model = build_model("linear", GREY_28, 2, 10)
    halves = torch.zeros(2, 28, 28)
    halves[0, :14] = halves[1, 14:] = scale / (14 * 28)
    outputs = torch.zeros(10, 2)
    outputs[CLASS_NAMES.index("T-shirt/top"), 0] = outputs[CLASS_NAMES.index("Ankle boot"), 1] = 1
    weights = {"layers.1.weight": halves.flatten(1), "layers.2.weight": outputs}
    model.load_state_dict({key: weights.get(key, torch.zeros_like(old)) for key, old in model.state_dict().items()})
    save_checkpoint(path, model, "model_0", model_params(hidden_units=2), no_images())


def draw(path: str | Path, upper: int = 200, lower: int = 60, inverted: bool = False, **options: Any) -> Path:
    """Save a garment of two greys on black, or its negative on white."""
    image_HW = np.zeros((140, 140), np.uint8)
    image_HW[:70, 20:120] = upper
    image_HW[70:, 20:120] = lower
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(255 - image_HW if inverted else image_HW).save(path, **options)
    return path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_stage: RunStage) -> Run:
    """`run("shirt.png", "--json")` in a new current folder, with a model in the usual place."""
    save_model(tmp_path / "models/best.safetensors")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_stage("predict", *arguments)


def entries(done: "CompletedProcess[str]") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


# What is printed


def test_columns(run: Run) -> None:
    draw("shirt.png")
    done = run("shirt.png")
    assert (done.returncode, done.stderr) == (0, "")
    name, first, second, third = done.stdout.splitlines()
    assert name == "shirt.png"
    assert first.split()[:2] == ["T-shirt/top", "99.9"]
    assert first.endswith(" %  " + "█" * 20)
    assert second.split()[:3] == ["Ankle", "boot", "0.0"]
    assert first.index("%") == second.index("%") == third.index("%")


def test_terminal_without_block_characters(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("shirt-é.png")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["predict", "shirt-é.png"])
    predict.main()
    name, first, *_ = written.getvalue().decode("ascii").splitlines()
    assert name == "shirt-?.png"
    assert first.endswith(" %  " + "#" * 20)


def test_several_files_in_the_order_given(run: Run) -> None:
    draw("b.png")
    draw("a.png", upper=60, lower=200)
    blocks = [block.splitlines() for block in run("b.png", "a.png").stdout.split("\n\n")]
    assert [(block[0], block[1].split()[0]) for block in blocks] == [("b.png", "T-shirt/top"), ("a.png", "Ankle")]


@pytest.mark.parametrize(("top", "expected"), [("1", 1), ("10", 10), ("500", 10)])
def test_top(run: Run, top: str, expected: int) -> None:
    draw("shirt.png")
    assert len(run("shirt.png", "--top", top).stdout.splitlines()) == 1 + expected
    assert len(entries(run("shirt.png", "--top", top, "--json"))[0]["predictions"]) == expected


def test_equal_probabilities_keep_their_order(run: Run) -> None:
    draw("shirt.png")
    [entry] = entries(run("shirt.png", "--top", "10", "--json"))
    assert [found["class"] for found in entry["predictions"]][2:] == list(CLASS_NAMES[1:9])


def test_json(run: Run) -> None:
    draw("shirt.png")
    draw("boot.webp", upper=60, lower=200, inverted=True, lossless=True)
    shirt, boot = entries(run("--json", "--top", "2", "shirt.png", "boot.webp"))
    assert (shirt["file"], shirt["inverted"], boot["file"], boot["inverted"]) == ("shirt.png", False, "boot.webp", True)
    assert [found["class"] for found in shirt["predictions"]] == ["T-shirt/top", "Ankle boot"]
    assert [found["class"] for found in boot["predictions"]] == ["Ankle boot", "T-shirt/top"]
    first, second = (found["probability"] for found in shirt["predictions"])
    assert 1 >= first > 0.99 > second > 0


def test_json_without_any_image(run: Run) -> None:
    Path("text.png").write_text("hello")
    for name in ("missing.png", "text.png"):
        done = run("--json", name)
        assert (done.returncode, done.stdout) == (1, "[]\n")


def test_control_characters_in_a_name(run: Run) -> None:
    draw("a\nb\x1b[31m.png")
    Path("c\nd.png").write_text("hello")
    done = run("a\nb\x1b[31m.png", "c\nd.png")
    assert done.stdout.startswith("a\ufffdb\ufffd[31m.png\n")
    assert done.stderr.startswith("predict: c\ufffdd.png ")


def test_control_characters_in_a_model_file(run: Run) -> None:
    draw("shirt.png")
    tensors, about = load_tensors("models/best.safetensors")
    names = ["\x1b]0;owned\x07T-shirt\n", *about["class_names"][1:]]
    save_tensors("hostile.safetensors", tensors, {**about, "class_names": names})
    done = run("shirt.png", "--model", "hostile.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].split()[0] == "\ufffd]0;owned\ufffdT-shirt\ufffd"


@pytest.mark.parametrize(("now", "told"), [("as it was", False), ("edited", True)])
def test_architecture_edited_since_the_training(run: Run, now: str, told: bool) -> None:
    draw("shirt.png")
    lock_training(Path("models/best.safetensors"), "model_0", "as it was")
    Path("stages/architectures").mkdir(parents=True)
    Path("stages/architectures/linear.py").write_text(now)
    done = run("shirt.png")
    assert ("linear.py" in done.stderr) == told
    assert "shirt.png" in done.stdout


def test_model_unknown_to_the_lock(run: Run) -> None:
    """As one that was kept elsewhere, and its architecture edited since: its weights fit, and mean something else."""
    draw("shirt.png")
    lock_training(Path("shirt.png"), "model_0", "another")
    assert "was it trained with stages/architectures/linear.py as that is now?" in run("shirt.png").stderr


def test_best_model_of_an_earlier_training(run: Run) -> None:
    """As after `dvc repro train_model_0` alone: the best model is still the old one."""
    draw("shirt.png")
    lock_training(Path("shirt.png"), "model_0", "trained again", best=Path("models/best.safetensors"))
    assert "models/best.safetensors" in run("shirt.png").stderr


@pytest.mark.parametrize("given", ["models/model_0.safetensors", "{folder}/models/../models/model_0.safetensors"])
def test_model_of_another_commit(run: Run, given: str) -> None:
    """As after `git checkout` without `dvc checkout`: code and dvc.lock are of one state, the model of another."""
    draw("shirt.png")
    lock_training(Path("shirt.png"), "model_0", "another")
    shutil.copyfile("models/best.safetensors", "models/model_0.safetensors")
    done = run("shirt.png", "--model", given.format(folder=Path.cwd()))
    assert "`dvc checkout`" in done.stderr
    assert "models/model_0.safetensors" in done.stderr


def test_name_that_is_no_valid_text(run: Run) -> None:
    name = os.fsdecode(b"shirt-\xff.png")
    draw("shirt.png").rename(name)
    assert run(name).stdout.startswith("shirt-\ufffd.png\n")
    assert entries(run(name, "--json"))[0]["file"] == name


# What is read


def test_light_background(run: Run) -> None:
    draw("photo.jpg", inverted=True)
    name, first, *_ = run("photo.jpg").stdout.splitlines()
    assert name == "photo.jpg (inverted)"
    assert first.startswith("  T-shirt/top   99.")


@pytest.mark.parametrize(("background", "inverted"), [("auto", False), ("dark", False), ("light", True)])
def test_background_option(run: Run, background: str, inverted: bool) -> None:
    draw("shirt.png")
    [entry] = entries(run("shirt.png", "--background", background, "--json"))
    assert entry["inverted"] == inverted
    assert entry["predictions"][0]["class"] == ("Ankle boot" if inverted else "T-shirt/top")


def test_photo_turned_by_its_camera(run: Run) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    draw("boot.jpg", exif=exif)
    assert "Ankle boot    99." in run("boot.jpg", "--top", "1").stdout


def test_folders_in_sorted_order(run: Run) -> None:
    for name in ("photos/b.png", "photos/a/2.jpg", "photos/a/1.bmp", "last.gif"):
        draw(name)
    Path("photos/notes.txt").write_text("hello")
    done = run("last.gif", "photos", "--json")
    assert [entry["file"] for entry in entries(done)] == [
        "last.gif",
        "photos/a/1.bmp",
        "photos/a/2.jpg",
        "photos/b.png",
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_chunks_give_what_each_image_gives_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "CHUNK", 3)
    for number in range(8):
        draw(f"photos/{number}.png", upper=30 * number + 40, lower=150)
    Path("photos/4.png").write_text("hello")
    together = entries(run("photos", "--json"))
    assert [entry["file"] for entry in together] == [f"photos/{number}.png" for number in (0, 1, 2, 3, 5, 6, 7)]
    assert together == [entries(run(entry["file"], "--json"))[0] for entry in together]


def test_model_option(run: Run) -> None:
    draw("shirt.png")
    save_model(Path("unsure.safetensors"), scale=0.0)
    [entry] = entries(run("shirt.png", "--model", "unsure.safetensors", "--json"))
    assert entry["predictions"][0]["probability"] == pytest.approx(0.1)


# Pictures that are unlike what the model knows


def test_one_line_of_warning(run: Run) -> None:
    draw("shirt.png")
    sample = str(PROJECT / "docs/samples/shirt_on_cloth.png")
    done = run("shirt.png", sample)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("predict: warning: ")
    assert sample in line
    assert "ground" in line
    assert done.stdout.count(" %") == 6
    assert [bool(entry["doubts"]) for entry in entries(run("shirt.png", sample, "--json"))] == [False, True]


# Models of other images


def save_colour_model(side: int = 8, source: str = "images", fit: str = "pad") -> None:
    """Save a model of images in colour that finds mars where red is the strongest channel, and neptune where blue."""
    model = build_model("linear", (3, side, side), 2, 2)
    channels = torch.zeros(2, 3, side, side)
    channels[0, 0] = channels[1, 2] = 20 / side**2
    weights = {"layers.1.weight": channels.flatten(1), "layers.2.weight": torch.eye(2)}
    model.load_state_dict({key: weights.get(key, torch.zeros_like(old)) for key, old in model.state_dict().items()})
    brought = {"image_size": side, "channels": 3, "fit": fit}
    train = replace(no_images(("mars", "neptune 海"), (3, side, side)), source=source, data_set="p", brought=brought)
    save_checkpoint("models/best.safetensors", model, "model_0", model_params(hidden_units=2), train)


def paint(path: str, colour: str, size: tuple[int, int] = (90, 60), mode: str = "RGB") -> str:
    """Save a picture of one colour: a garment would be nowhere in it."""
    Image.new("RGB", size, colour).convert(mode).save(path)
    return path


@pytest.mark.parametrize("side", [4, 64, 256])
@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_model_of_images_in_colour(run: Run, side: int, fit: str) -> None:
    save_colour_model(side, fit=fit)
    done = run(paint("red.png", "red"), paint("blue.jpg", "blue"), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    red, blue = entries(done)
    assert [entry["predictions"][0]["class"] for entry in (red, blue)] == ["mars", "neptune 海"]
    assert not any(entry["inverted"] or entry["doubts"] for entry in (red, blue))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_any_mode(run: Run, mode: str) -> None:
    save_colour_model()
    suffix = "jpg" if mode == "CMYK" else "png"
    done = run(paint(f"a.{suffix}", "red", mode="RGB" if mode == "I;16" else mode))
    assert done.returncode == 0
    assert "mars" in done.stdout


def test_picture_is_brought_as_prepare_does(run: Run) -> None:
    """Padding leaves a third of the light of a wide picture."""
    answers = []
    for fit in ("pad", "crop"):
        save_colour_model(fit=fit)
        [entry] = entries(run(paint("red.png", "red", (90, 30)), "--json"))
        answers.append(entry["predictions"][0]["probability"])
    assert answers[0] == pytest.approx(1 / (1 + np.exp(-20 / 3)), abs=0.05)
    assert answers[1] > 0.99999


@pytest.mark.parametrize("names", [["red.png"], ["red.png", "blue.png"]])
def test_plot_in_colour(run: Run, names: list[str]) -> None:
    save_colour_model()
    for name in names:
        paint(name, name.removesuffix(".png"))
    done = run(*names, "--plot", "out.png")
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open("out.png") as picture:
        assert (255, 0, 0) in {colour for _, colour in picture.convert("RGB").getcolors(10**7) or []}


# What is refused


def save_grey(path: Path) -> None:
    Image.new("L", (100, 100), 128).save(path)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.png": (lambda path: None, "No such file"),
    "empty.png": (Path.touch, "is empty"),
    "text.png": (lambda path: path.write_text("hello"), "is no PNG"),
    "cut.png": (lambda path: path.write_bytes(draw(path).read_bytes()[:-60]), "cut short"),
    "pipe.png": (os.mkfifo, "no regular file"),
    "folder": (Path.mkdir, "no image files"),
    "grey.png": (save_grey, "nothing but one colour"),
    "x" * 500: (lambda path: None, "too long"),
}


def test_one_line_for_each_bad_file(run: Run) -> None:
    for name, (make, _) in REFUSED.items():
        make(Path(name))
    draw("shirt.png")
    done = run_process("predict", *REFUSED, "shirt.png", PYTHONIOENCODING="utf-8", OMP_NUM_THREADS="1")
    assert done.returncode == 1
    assert done.stdout.startswith("shirt.png\n  T-shirt/top   99.")
    lines = done.stderr.splitlines()
    assert len(lines) == len(REFUSED)
    for name, (_, reason) in REFUSED.items():
        assert [line for line in lines if line.startswith(f"predict: {name}") and reason in line], name


def test_file_without_permission(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("shirt.png")
    draw("locked.png")
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:  # file modes would not do: root reads everything
        if path.name == "locked.png":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    done = run("locked.png", "shirt.png")
    assert (done.returncode, done.stderr) == (1, "predict: locked.png: Permission denied\n")
    assert done.stdout.startswith("shirt.png")


def test_folder_below_without_permission(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("photos/shirt.png")
    draw("photos/locked/boot.png")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    done = run("photos")
    assert (done.returncode, done.stderr) == (1, "predict: photos/locked: Permission denied\n")
    assert done.stdout.startswith("photos/shirt.png")


def test_pickle_as_model_is_not_executed(run: Run, stage_refusal: StageRefusal) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(Path("executed").absolute()),)

    draw("shirt.png")
    Path("model.safetensors").write_bytes(pickle.dumps(Trap()))
    assert "model.safetensors" in stage_refusal("predict", "shirt.png", "--model", "model.safetensors")
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["none.safetensors", "models"])
def test_missing_model(run: Run, stage_refusal: StageRefusal, name: str) -> None:
    draw("shirt.png")
    line = stage_refusal("predict", "shirt.png", "--model", name)
    assert name in line
    assert "dvc repro" in line


def test_diverged_model(run: Run, stage_refusal: StageRefusal) -> None:
    draw("shirt.png")
    save_model(Path("diverged.safetensors"), scale=float("nan"))
    assert "train it again" in stage_refusal("predict", "shirt.png", "--model", "diverged.safetensors")


@pytest.mark.parametrize(
    "options", [[], ["x.png", "--top", "0"], ["x.png", "--top", "two"], ["x", "--background", "blue"]]
)
def test_wrong_command_line(run: Run, options: list[str]) -> None:
    done = run(*options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: python -m stages.predict")


@pytest.mark.parametrize(
    ("options", "status"), [(["--help"], 0), (["missing.png"], 1), (["shirt.png", "--model", "missing"], 1)]
)
def test_nothing_slow_is_imported_before_there_is_work(run: Run, options: list[str], status: int) -> None:
    draw("shirt.png")
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded:', sorted({'torch', 'matplotlib'} & set(sys.modules))))\n"
        "from stages.lib.base.errors import exit_cleanly\n"
        "from stages.predict import main\n"
        "exit_cleanly('predict', main)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", program, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == status
    assert done.stdout.endswith("loaded: []\n")


# Pictures


def test_plot_of_one_file(run: Run) -> None:
    draw("shirt.png", inverted=True)
    for name in ("one.png", "two.PNG"):
        assert run("shirt.png", "--plot", f"out/{name}").returncode == 0
    assert Path("out/one.png").read_bytes() == Path("out/two.PNG").read_bytes()
    with Image.open("out/one.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 2 * picture.height


def test_plot_of_many_files(run: Run) -> None:
    for number in range(5):
        draw(f"photos/{number}.png")
    Path("photos/5.png").write_text("hello")
    assert run("photos", "--plot", "grid.png").stdout.count("T-shirt/top") == 5
    with Image.open("grid.png") as picture:
        assert picture.width > picture.height > 300  # three columns, two rows


def test_plot_of_too_many_files(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "MOST_PLOTTED", 2)
    for number in range(3):
        draw(f"photos/{number}.png")
    done = run("photos", "--plot", "grid.png")
    assert (done.returncode, done.stderr.count("\n"), done.stdout.count("T-shirt/top")) == (0, 1, 3)
    assert "grid.png" in done.stderr
    with Image.open("grid.png") as picture:
        assert picture.width > 1.4 * picture.height


@pytest.mark.parametrize("name", ["cost$5$\\frac.png", "服.png", "a\nb.png", "x" * 200 + ".png"])
def test_plot_with_an_odd_name(run: Run, name: str) -> None:
    draw(name)
    for files in ([name], [name, name]):
        done = run(*files, "--plot", "out.png")
        assert (done.returncode, done.stderr) == (0, "")
        with Image.open("out.png") as picture:
            assert picture.width < 1600


@pytest.mark.parametrize("given", ["photos/shirt.png", "photos"])
def test_plot_never_overwrites_an_image(run: Run, stage_refusal: StageRefusal, given: str) -> None:
    draw("photos/shirt.png")
    assert "overwrite" in stage_refusal("predict", given, "--plot", "photos/../photos/shirt.png")


def test_plot_follows_a_link(run: Run) -> None:
    draw("shirt.png")
    Path("link.png").symlink_to("plot.png")
    assert run("shirt.png", "--plot", "link.png").returncode == 0
    assert Path("link.png").is_symlink()
    with Image.open("plot.png") as picture:
        assert picture.format == "PNG"


def test_plot_never_replaces_a_pipe(run: Run) -> None:
    draw("shirt.png")
    os.mkfifo("pipe.png")
    done = run("shirt.png", "--plot", "pipe.png")
    assert (done.returncode, done.stderr.count("\n"), Path("pipe.png").is_fifo()) == (1, 1, True)
    assert "pipe.png" in done.stderr


def test_plot_never_overwrites_the_model(run: Run, stage_refusal: StageRefusal) -> None:
    draw("shirt.png")
    save_model(Path("model.png"))
    assert "overwrite" in stage_refusal("predict", "shirt.png", "--model", "model.png", "--plot", "model.png")


def test_plot_must_end_in_png(run: Run, stage_refusal: StageRefusal) -> None:
    draw("shirt.png")
    assert "out.svg" in stage_refusal("predict", "shirt.png", "--plot", "out.svg")


def test_no_plot_without_any_image(run: Run) -> None:
    Path("text.png").write_text("hello")
    assert run("text.png", "--plot", "out.png").returncode == 1
    assert not Path("out.png").exists()
