import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages import predict
from stages.lib.learning.models import build_model
from stages.lib.learning.models import load_checkpoint, save_checkpoint
from stages.lib.base.errors import UserError, exit_cleanly
from stages.lib.source.fashion_mnist import CLASS_NAMES
from stages.lib.photos import Background
from stages.lib.base.params import ModelParams

ROOT = Path(__file__).parents[1]

Run = Callable[..., tuple[int, str, str]]


def save_model(path: Path, scale: float = 20.0) -> None:
    """Save a model that finds a T-shirt where the upper half is the lighter one, and an ankle boot where the lower."""
    params = ModelParams(arch="linear", hidden_units=2, epochs=1, batch_size=1, lr=0.1)
    model = build_model("linear", 2, 10)
    halves = torch.zeros(2, 28, 28)
    halves[0, :14] = halves[1, 14:] = scale / (14 * 28)
    outputs = torch.zeros(10, 2)
    outputs[CLASS_NAMES.index("T-shirt/top"), 0] = outputs[CLASS_NAMES.index("Ankle boot"), 1] = 1
    weights = {"layers.1.weight": halves.flatten(1), "layers.2.weight": outputs}
    model.load_state_dict({key: weights.get(key, torch.zeros_like(old)) for key, old in model.state_dict().items()})
    save_checkpoint(path, model, "model_0", params, CLASS_NAMES)


def draw(path: Path, upper: int = 200, lower: int = 60, inverted: bool = False, **options: Any) -> Path:
    """Save a garment of two greys on black, or its negative on white."""
    image_HW = np.zeros((140, 140), np.uint8)
    image_HW[:70, 20:120] = upper
    image_HW[70:, 20:120] = lower
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(255 - image_HW if inverted else image_HW).save(path, **options)
    return path


def bomb(path: Path) -> Path:
    """Save a PNG file of some hundred bytes whose header claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")
    )
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model in the usual place."""
    save_model(tmp_path / "models" / "best.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in the working folder; give exit status, stdout and stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        status: Any = 0
        try:
            exit_cleanly("predict", lambda: predict.main([str(argument) for argument in arguments]))
        except SystemExit as stop:
            status = stop.code
        if isinstance(status, str):  # what Python does with it on the way out
            print(status, file=sys.stderr)
            status = 1
        out, err = capsys.readouterr()
        return int(status or 0), out, err

    return run


def run_for_real(folder: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "stages.predict", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", cwd=folder, env=environment, timeout=120, check=False
    )


# What is printed


def test_the_likeliest_classes_are_printed_in_columns(run: Run, folder: Path) -> None:
    draw(folder / "shirt.png")
    status, out, err = run("shirt.png")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "shirt.png"
    assert lines[1].startswith("  T-shirt/top   99.")
    assert lines[1].endswith(" %  " + "█" * 20)
    assert lines[2].startswith("  Ankle boot     0.")
    assert len(lines) == 4
    assert len({line.index("%") for line in lines[1:]}) == 1


def test_a_terminal_without_block_characters_gets_bars_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(folder / "shirt-é.png")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    predict.main(["shirt-é.png"])
    lines = written.getvalue().decode("ascii").splitlines()
    assert lines[0] == "shirt-?.png"
    assert lines[1].endswith(" %  " + "#" * 20)


def test_several_files_are_printed_in_the_order_given_with_a_line_between(run: Run, folder: Path) -> None:
    draw(folder / "b.png")
    draw(folder / "a.png", upper=60, lower=200)
    _, out, _ = run("b.png", "a.png")
    blocks = [block.splitlines() for block in out.split("\n\n")]
    assert [(block[0], block[1].split()[0]) for block in blocks] == [("b.png", "T-shirt/top"), ("a.png", "Ankle")]


@pytest.mark.parametrize(("top", "expected"), [(1, 1), (10, 10), (500, 10)])
def test_top_says_how_many_classes_are_listed(run: Run, folder: Path, top: int, expected: int) -> None:
    draw(folder / "shirt.png")
    assert len(run("shirt.png", "--top", str(top))[1].splitlines()) == 1 + expected
    assert len(json.loads(run("shirt.png", "--top", str(top), "--json")[1])[0]["predictions"]) == expected


def test_classes_of_the_same_probability_keep_their_order(run: Run, folder: Path) -> None:
    draw(folder / "shirt.png")
    [entry] = json.loads(run("shirt.png", "--top", "10", "--json")[1])
    assert [found["class"] for found in entry["predictions"]][2:] == list(CLASS_NAMES[1:9])


def test_json_is_one_document_with_every_file_that_was_classified(run: Run, folder: Path) -> None:
    draw(folder / "shirt.png")
    draw(folder / "boot.webp", upper=60, lower=200, inverted=True, lossless=True)
    (folder / "text.png").write_text("hello")
    status, out, err = run("--json", "--top", "2", "shirt.png", "text.png", "boot.webp")
    document = json.loads(out)
    assert [(entry["file"], entry["inverted"]) for entry in document] == [("shirt.png", False), ("boot.webp", True)]
    assert [[found["class"] for found in entry["predictions"]] for entry in document] == [
        ["T-shirt/top", "Ankle boot"],
        ["Ankle boot", "T-shirt/top"],
    ]
    for entry in document:
        assert set(entry) == {"file", "inverted", "predictions"}
        first, second = (found["probability"] for found in entry["predictions"])
        assert 1 >= first > 0.99 > second > 0
    assert status == 1
    assert err.count("\n") == 1


def test_json_is_a_document_even_when_nothing_was_classified(run: Run, folder: Path) -> None:
    assert run("--json", "missing.png")[:2] == (1, "[]\n")
    (folder / "text.png").write_text("hello")
    assert run("--json", "text.png")[:2] == (1, "[]\n")


# What is read


def test_a_light_background_is_recognised_and_said(run: Run, folder: Path) -> None:
    draw(folder / "photo.jpg", inverted=True)
    _, out, _ = run("photo.jpg")
    assert out.splitlines()[0] == "photo.jpg (inverted)"
    assert out.splitlines()[1].startswith("  T-shirt/top   99.")


@pytest.mark.parametrize(("background", "inverted"), [("auto", False), ("dark", False), ("light", True)])
def test_the_background_can_be_forced(run: Run, folder: Path, background: str, inverted: bool) -> None:
    draw(folder / "shirt.png")
    [entry] = json.loads(run("shirt.png", "--background", background, "--json")[1])
    assert entry["inverted"] == inverted
    assert entry["predictions"][0]["class"] == ("Ankle boot" if inverted else "T-shirt/top")


def test_a_photo_turned_by_its_camera_is_set_upright(run: Run, folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    draw(folder / "boot.jpg", exif=exif)
    assert "Ankle boot    99." in run("boot.jpg", "--top", "1")[1]


def test_the_images_of_a_folder_are_classified_in_sorted_order(run: Run, folder: Path) -> None:
    for name in ("photos/b.png", "photos/a/2.jpg", "photos/a/1.bmp", "last.gif"):
        draw(folder / name)
    (folder / "photos" / "notes.txt").write_text("hello")
    (folder / "photos" / "a" / "loop").symlink_to(folder / "photos", target_is_directory=True)
    status, out, err = run("last.gif", "photos", "--json")
    assert [entry["file"] for entry in json.loads(out)] == [
        "last.gif",
        "photos/a/1.bmp",
        "photos/a/2.jpg",
        "photos/b.png",
    ]
    assert (status, err) == (0, "")


def test_more_images_than_are_computed_at_once_give_what_each_gives_alone(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "CHUNK", 3)
    for number in range(8):
        draw(folder / "photos" / f"{number}.png", upper=30 * number + 40, lower=150)
    (folder / "photos" / "4.png").write_text("hello")
    status, out, _ = run("photos", "--json")
    together = json.loads(out)
    alone = [json.loads(run(entry["file"], "--json")[1])[0] for entry in together]
    assert together == alone
    assert [entry["file"] for entry in together] == [f"photos/{number}.png" for number in (0, 1, 2, 3, 5, 6, 7)]
    assert status == 1


def test_another_model_can_be_named(run: Run, folder: Path) -> None:
    draw(folder / "shirt.png")
    save_model(folder / "unsure.safetensors", scale=0.0)
    [entry] = json.loads(run("shirt.png", "--model", "unsure.safetensors", "--json")[1])
    assert entry["predictions"][0]["probability"] == pytest.approx(0.1)


# What goes wrong


def make_nothing(path: Path) -> None:
    """Leave the file missing."""


def make_empty_folder(path: Path) -> None:
    path.mkdir()


FAILURES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.png": (make_nothing, "does not exist"),
    "empty.png": (Path.touch, "is empty"),
    "text.png": (lambda path: path.write_text("hello"), "is no PNG, JPEG, WebP, GIF or BMP image, or is damaged"),
    "drawing.svg": (lambda path: path.write_text("<svg/>"), "is an SVG drawing; export it as PNG first"),
    "pickle.png": (lambda path: path.write_bytes(pickle.dumps([1])), "is no PNG"),
    "cut.png": (lambda path: path.write_bytes(draw(path).read_bytes()[:-60]), "is damaged or cut short"),
    "bomb.png": (bomb, "has more than 50,000,000 pixels"),
    "pipe.png": (os.mkfifo, "is no regular file"),
    "folder": (make_empty_folder, "holds no image files"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_cannot_be_read_has_one_line_and_the_others_are_classified(run: Run, folder: Path, name: str) -> None:
    make, reason = FAILURES[name]
    make(folder / name)
    for other in ("before.png", "after.png"):
        draw(folder / other)
    status, out, err = run("before.png", name, "after.png")
    assert status == 1
    assert err.startswith(f"predict: {name} {reason}")
    assert err.count("\n") == 1
    assert [line for line in out.splitlines() if line.endswith(".png")] == ["before.png", "after.png"]


def test_every_failure_at_once_has_its_line_in_a_real_process(folder: Path) -> None:
    for name, (make, _) in FAILURES.items():
        make(folder / name)
    draw(folder / "shirt.png")
    done = run_for_real(folder, *FAILURES, "shirt.png")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == len(FAILURES)
    for name, (_, reason) in FAILURES.items():
        assert f"predict: {name} {reason}" in done.stderr
    assert done.stdout.startswith("shirt.png\n  T-shirt/top   99.")


def test_a_file_without_permission_has_one_line(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(folder / "shirt.png")
    draw(folder / "locked.png")
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:  # file modes would not do: root reads everything
        if path.name == "locked.png":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    status, out, err = run("locked.png", "shirt.png")
    assert (status, err) == (1, "predict: locked.png cannot be read (Permission denied)\n")
    assert out.startswith("shirt.png")


def test_a_folder_below_without_permission_has_one_line(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(folder / "photos" / "shirt.png")
    draw(folder / "photos" / "locked" / "boot.png")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    status, out, err = run("photos")
    assert (status, err) == (1, "predict: photos/locked cannot be read (Permission denied)\n")
    assert out.startswith("photos/shirt.png")


def test_a_pickle_given_as_model_is_refused_in_a_real_process(folder: Path) -> None:
    draw(folder / "shirt.png")
    torch.save({"layers.1.weight": torch.zeros(3)}, folder / "model.pt")
    done = run_for_real(folder, "shirt.png", "--model", "model.pt")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("predict: model.pt is damaged or no safetensors file of ours")
    assert done.stderr.count("\n") == 1


def test_a_pickle_given_as_model_is_never_executed(run: Run, folder: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(folder / "executed"),)

    draw(folder / "shirt.png")
    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    status, _, err = run("shirt.png", "--model", "model.safetensors")
    assert (status, err.count("\n")) == (1, 1)
    assert not (folder / "executed").exists()


@pytest.mark.parametrize(("name", "reason"), [("none.safetensors", "is missing; run `dvc repro`"), (".", "is no file")])
def test_a_model_that_is_not_there_is_named(run: Run, folder: Path, name: str, reason: str) -> None:
    draw(folder / "shirt.png")
    status, out, err = run("shirt.png", "--model", name)
    assert (status, out) == (1, "")
    assert err.startswith(f"predict: {name} {reason}")
    assert err.count("\n") == 1


def test_a_model_whose_training_diverged_is_said(run: Run, folder: Path) -> None:
    draw(folder / "shirt.png")
    save_model(folder / "diverged.safetensors", scale=float("nan"))
    status, out, err = run("shirt.png", "--model", "diverged.safetensors")
    assert (status, out) == (1, "")
    assert err == "predict: the model gives probabilities that are no numbers; train it again\n"


def test_a_name_that_would_break_the_line_does_not(run: Run, folder: Path) -> None:
    draw(folder / "a\nb\x1b[31m.png")
    (folder / "c\nd.png").write_text("hello")
    _, out, err = run("a\nb\x1b[31m.png", "c\nd.png")
    assert out.splitlines()[0] == "a\ufffdb\ufffd[31m.png"
    assert err.startswith("predict: c\ufffdd.png is no PNG")


def test_a_name_that_is_no_valid_text_is_printed_and_found_again(run: Run, folder: Path) -> None:
    name = os.fsdecode(b"shirt-\xff.png")
    draw(folder / "shirt.png").rename(folder / name)
    assert run(name)[1].startswith("shirt-\ufffd.png\n")
    assert json.loads(run(name, "--json")[1])[0]["file"] == name


@pytest.mark.parametrize(
    "arguments", [[], [""], ["x.png", "--top", "0"], ["x.png", "--top", "two"], ["x.png", "--background", "blue"]]
)
def test_a_wrong_command_line_shows_how_it_goes(run: Run, arguments: list[str]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: python -m stages.predict")


# What start-up costs


@pytest.mark.parametrize(
    ("arguments", "status"), [(["--help"], 0), (["missing.png"], 1), (["shirt.png", "--model", "missing"], 1)]
)
def test_neither_torch_nor_matplotlib_is_loaded_before_there_is_work(
    folder: Path, arguments: list[str], status: int
) -> None:
    draw(folder / "shirt.png")
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded:', sorted({'torch', 'matplotlib'} & set(sys.modules))))\n"
        "from stages.lib.base.errors import exit_cleanly\n"
        "from stages.predict import main\n"
        "exit_cleanly('predict', main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert done.returncode == status
    assert done.stdout.endswith("loaded: []\n")


# Pictures


def test_the_plot_of_one_file_is_a_picture_and_the_same_bytes_each_time(run: Run, folder: Path) -> None:
    draw(folder / "shirt.png", inverted=True)
    assert run("shirt.png", "--plot", "out/one.png")[0] == 0
    assert run("shirt.png", "--plot", "out/two.PNG")[0] == 0
    assert (folder / "out" / "one.png").read_bytes() == (folder / "out" / "two.PNG").read_bytes()
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["one.png", "two.PNG"]
    with Image.open(folder / "out" / "one.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 2 * picture.height
        assert "Software" not in picture.info


def test_the_plot_of_many_files_is_a_grid_of_those_that_could_be_read(run: Run, folder: Path) -> None:
    for number in range(5):
        draw(folder / "photos" / f"{number}.png")
    (folder / "photos" / "5.png").write_text("hello")
    status, out, _ = run("photos", "--plot", "grid.png")
    assert (status, out.count("T-shirt/top")) == (1, 5)
    with Image.open(folder / "grid.png") as picture:
        assert picture.width > picture.height > 300  # three columns, two rows


def test_a_picture_has_room_for_so_many_and_says_so(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "MOST_PLOTTED", 2)
    for number in range(3):
        draw(folder / "photos" / f"{number}.png")
    status, out, err = run("photos", "--plot", "grid.png")
    assert (status, err) == (0, "predict: grid.png will show the first 2 images only\n")
    assert out.count("T-shirt/top") == 3
    with Image.open(folder / "grid.png") as picture:
        assert picture.width > 1.5 * picture.height


@pytest.mark.parametrize("name", ["cost$5$\\frac.png", "服.png", "a\nb.png", "x" * 200 + ".png"])
def test_an_odd_name_does_not_spoil_the_picture(run: Run, folder: Path, name: str) -> None:
    draw(folder / name)
    for files in ([name], [name, name]):
        status, _, err = run(*files, "--plot", "out.png")
        assert (status, err) == (0, "")
        assert (folder / "out.png").stat().st_size > 1000
        (folder / "out.png").unlink()


def test_a_plot_never_overwrites_what_is_classified(run: Run, folder: Path) -> None:
    before = draw(folder / "photos" / "shirt.png").read_bytes()
    for given in ("photos/shirt.png", "photos"):
        status, out, err = run(given, "--plot", folder / "photos" / "shirt.png")
        assert (status, out) == (1, "")
        assert "would overwrite an image that is to be classified" in err
    assert (folder / "photos" / "shirt.png").read_bytes() == before


def test_a_plot_is_png_by_name(run: Run, folder: Path) -> None:
    draw(folder / "shirt.png")
    status, out, err = run("shirt.png", "--plot", "out.svg")
    assert (status, out, err) == (1, "", "predict: --plot out.svg: its name must end in .png\n")


def test_no_plot_is_written_when_nothing_could_be_classified(run: Run, folder: Path) -> None:
    (folder / "text.png").write_text("hello")
    assert run("text.png", "--plot", "out.png")[0] == 1
    assert not (folder / "out.png").exists()


# As functions, in a notebook


@pytest.mark.parametrize(
    ("background", "expected"), [("auto", "T-shirt/top"), ("dark", "T-shirt/top"), ("light", "Ankle boot")]
)
def test_one_image_can_be_predicted_and_plotted(folder: Path, background: Background, expected: str) -> None:
    checkpoint = load_checkpoint(folder / "models" / "best.safetensors")
    path = draw(folder / "shirt.png")
    prediction = predict.predict_image(checkpoint.model, path, checkpoint.class_names, background)
    assert prediction.path == path
    assert prediction.ranking[0][0] == expected
    assert sum(probability for _, probability in prediction.ranking) == pytest.approx(1)

    figure = predict.predict_and_plot_image(checkpoint.model, str(path), checkpoint.class_names, background)
    assert figure.get_suptitle() == f"{expected}, {100 * prediction.ranking[0][1]:.1f} %"
    given, seen, bars = figure.axes
    assert given.get_title() == "shirt.png"
    assert np.array_equal(np.asarray(seen.images[0].get_array()), prediction.garment.pixels_HW)
    assert [label.get_text() for label in bars.get_yticklabels()] == [name for name, _ in prediction.ranking]


def test_a_function_given_no_image_raises_the_one_error(folder: Path) -> None:
    checkpoint = load_checkpoint(folder / "models" / "best.safetensors")
    with pytest.raises(UserError, match=r"shirt.png does not exist"):
        predict.predict_and_plot_image(checkpoint.model, folder / "shirt.png", checkpoint.class_names)


def test_a_model_in_training_mode_predicts_as_in_evaluation(folder: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10), torch.nn.Dropout(0.9))
    path = draw(folder / "shirt.png")
    first, second = (predict.predict_image(model.train(), path, CLASS_NAMES).ranking for _ in range(2))
    assert first == second
