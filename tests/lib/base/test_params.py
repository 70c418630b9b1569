"""Every knob: what it takes, and what is said of what it does not take."""

import math
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from ruamel.yaml import YAML

from stages.lib.base.errors import UserError
from stages.lib.base.params import ModelParams, Params, architectures, load_params
from tests.helpers import PROJECT, model_params, refusal

GOOD = {
    "seed": "42",
    "fetch.source": "synthetic",
    "fetch.mirrors": "[https://example.org/, /srv/mirror]",
    "fetch.synthetic.train": "6000",
    "fetch.synthetic.test": "1000",
    "fetch.synthetic.seed": "42",
    "fetch.images.name": "pets",
    "fetch.images.path": "../pets.zip",
    "fetch.images.sha256": "0123456789abcdef" * 4,
    "fetch.images.test": "0.2",
    "prepare.image_size": "28",
    "prepare.channels": "1",
    "prepare.fit": "pad",
    "prepare.validation": "0",
    "prepare.train_images": "0",
    "prepare.seed": "42",
    "train.device": "auto",
    "train.threads": "2",
    "train.precision": "float32",
    "train.processes": "1",
    "model_0.arch": "linear",
    "model_0.hidden_units": "10",
    "model_0.epochs": "3",
    "model_0.batch_size": "32",
    "model_0.lr": "0.1",
    "model_0.memory_format": "contiguous",
    "model_0.threads": "1",
    "model_0.settings": "{kernel_size: 5, pooling: avg}",
    "model_0.optimizer": "sgd",
    "model_0.momentum": "0.9",
    "model_0.nesterov": "false",
    "model_0.weight_decay": "1e-4",
    "model_0.schedule": "onecycle",
    "model_0.label_smoothing": "0.1",
    "model_0.augment": "[flip, shift, erase]",
    "model_0.ema": "0.99",
    "model_0.patience": "3",
    "model_0.keep": "best",
    "evaluate.batch_size": "32",
    "compare.by": "accuracy",
    "confusion.samples": "9",
    "confusion.mistakes": "9",
    "confusion.seed": "42",
}
SEEDS = ["seed", "fetch.synthetic.seed", "prepare.seed", "confusion.seed"]
WHOLE_NUMBERS = {  # the lowest and the highest that are allowed
    **dict.fromkeys(SEEDS, (0, 2**32 - 1)),
    **dict.fromkeys(["fetch.synthetic.train", "fetch.synthetic.test"], (10, 10_000_000)),
    "prepare.image_size": (4, 1024),
    "prepare.validation": (0, 10_000_000),
    "prepare.train_images": (0, 10_000_000),
    **dict.fromkeys(["train.threads", "train.processes", "model_0.threads"], (1, 256)),
    "model_0.hidden_units": (1, 4096),
    "model_0.epochs": (1, 10_000),
    "model_0.patience": (0, 10_000),
    **dict.fromkeys(["model_0.batch_size", "evaluate.batch_size"], (1, 65_536)),
    **dict.fromkeys(["confusion.samples", "confusion.mistakes"], (1, 100)),
}
CHOICES = {
    "fetch.source": ["fashion-mnist", "mnist", "images", "synthetic"],
    "prepare.fit": ["pad", "crop"],
    "train.device": ["auto", "cpu", "cuda", "mps"],
    "train.precision": ["float32", "bfloat16"],
    "model_0.arch": architectures(),
    "model_0.memory_format": ["contiguous", "channels_last"],
    "model_0.schedule": ["constant", "cosine", "onecycle"],
    "model_0.keep": ["last", "best"],
    "compare.by": ["accuracy", "loss"],
}
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(["fetch.images.name", "fetch.images.path", "fetch.images.sha256"], ""),
    "fetch.images.test": 0.2,
    "prepare.image_size": 28,
    "prepare.channels": 1,
    "prepare.fit": "pad",
    "prepare.train_images": 0,
    **dict.fromkeys(SEEDS[1:], 42),
    "train.precision": "float32",
    "train.processes": 1,
    "model_0.memory_format": "contiguous",
    "model_0.threads": None,
    "model_0.settings": {},
    "model_0.optimizer": "sgd",
    **dict.fromkeys(["model_0.momentum", "model_0.weight_decay", "model_0.label_smoothing", "model_0.ema"], 0),
    "model_0.nesterov": False,
    "model_0.schedule": "constant",
    "model_0.augment": [],
    "model_0.patience": 0,
    "model_0.keep": "last",
}
NO_NUMBERS = ["true", '""', "'42'", "ten", "[1]", "{a: 1}", ".nan", ".inf", "-.inf", "2024-01-01", "1e400"]
NO_WORDS = ["3", "0.5", "false", "null", '""', "[cpu]", "{a: b}", ".nan", "2024-01-01"]
INJECTIONS = [
    "../../etc/passwd",
    "/etc/passwd",
    "linear; touch owned",
    "$(touch owned)",
    "`touch owned`",
    "linear\n",
    "*",
]


def write(folder: Path, values: dict[str, str]) -> Path:
    """Write a params.yaml with these values, YAML text by full key."""
    lines, blocks_written = [], set()
    for name, text in sorted(values.items()):
        *blocks, key = name.split(".")
        for depth, block in enumerate(blocks):
            if (start := tuple(blocks[: depth + 1])) not in blocks_written:
                blocks_written.add(start)
                lines.append(f"{'  ' * depth}{block}:")
        lines.append(f"{'  ' * len(blocks)}{key}: {text}")
    path = folder / "params.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def complaint(path: Path) -> str:
    """Return what is said of a file, after its name."""
    message = refusal(load_params, path)
    assert message.startswith(str(path))
    assert message.isprintable(), message
    return message.removeprefix(str(path)).lstrip(": ")


def value_of(params: Params, name: str) -> Any:
    value: Any = params
    for part in name.split("."):
        value = value.models[part] if part.startswith("model_") else getattr(value, part)
    return value


def keys_of(block: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for key, field in block.model_fields.items():
        if key == "models":
            yield from keys_of(ModelParams, "model_0.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys_of(field.annotation, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_key_is_tried_here() -> None:
    assert set(keys_of(Params)) == set(GOOD)


def test_lecture_settings() -> None:
    params = load_params(PROJECT / "tests/lecture_params.yaml")
    assert params.models == {
        "model_0": model_params("linear", threads=1),
        "model_1": model_params("mlp", threads=1),
        "model_2": model_params("tiny_vgg", memory_format="channels_last"),
    }
    assert (params.seed, params.prepare.validation, params.evaluate.batch_size) == (42, 0, 32)


def test_project_file_loads() -> None:
    assert load_params(PROJECT / "params.yaml").models


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
def test_bounds_of_whole_numbers(name: str, tmp_path: Path) -> None:
    low, high = WHOLE_NUMBERS[name]
    for number in (low, high):
        taken = value_of(load_params(write(tmp_path, {**GOOD, name: str(number)})), name)
        assert (taken, type(taken)) == (number, int)
    for number in (low - 1, high + 1, -1_000_000, 10**30):
        message = complaint(write(tmp_path, {**GOOD, name: str(number)}))
        assert message.startswith(f"{name} is {number}; ")
        assert re.search(rf" {low if number < low else rf'({high}|{high + 1})'}$", message)
    for text in [*NO_NUMBERS, f"{low + 0.5}", f"{low}.0"]:
        assert re.match(rf"{re.escape(name)} is .+ integer$", complaint(write(tmp_path, {**GOOD, name: text})))


@pytest.mark.parametrize(
    ("text", "lr"),
    [("1e-3", 0.001), ("1E-3", 0.001), ("0.1", 0.1), ("1", 1.0), ("1000", 1000.0), ("+.5", 0.5), ("5e-324", 5e-324)],
)
def test_lr_read_as_dvc_reads_it(text: str, lr: float, tmp_path: Path) -> None:
    taken = load_params(write(tmp_path, {**GOOD, "model_0.lr": text})).model("model_0").lr
    assert (taken, type(taken)) == (lr, float)


@pytest.mark.parametrize(
    "text", [*NO_NUMBERS, "null", "0", "0.0", "-0.0", "-0.1", "1000.5", "1e300", "1_0a", "0.1.2", "1" + "0" * 400]
)
def test_impossible_lr(text: str, tmp_path: Path) -> None:
    assert complaint(write(tmp_path, {**GOOD, "model_0.lr": text})).startswith("model_0.lr is ")


@pytest.mark.parametrize("name", CHOICES)
def test_choices(name: str, tmp_path: Path) -> None:
    for word in CHOICES[name]:
        assert value_of(load_params(write(tmp_path, {**GOOD, name: word})), name) == word
    for word in [*INJECTIONS, "__init__", CHOICES[name][0].upper(), f" {CHOICES[name][0]}"]:
        message = complaint(write(tmp_path, {**GOOD, name: f'"{word}"'.replace("\n", "\\n")}))
        assert message.startswith(f"{name} is {word!r}; ")
        assert all(allowed in message for allowed in CHOICES[name])
    for text in NO_WORDS:
        assert complaint(write(tmp_path, {**GOOD, name: text})).startswith(f"{name} is ")


def test_mirrors(tmp_path: Path) -> None:
    params = load_params(write(tmp_path, {**GOOD, "fetch.mirrors": "[https://a/, /srv/b, ../c]"}))
    assert params.fetch.mirrors == ["https://a/", "/srv/b", "../c"]


@pytest.mark.parametrize("text", ["https://a/", "3", "null", "{a: b}", "[3]", "[null]", '["a", ""]', "[[a]]"])
def test_mirrors_of_another_kind(text: str, tmp_path: Path) -> None:
    message = complaint(write(tmp_path, {**GOOD, "fetch.mirrors": text}))
    assert re.match(r"fetch\.mirrors(\.\d)? is ", message)


@pytest.mark.parametrize("name", [name for name in GOOD if name not in DEFAULTS])
def test_missing_key(name: str, tmp_path: Path) -> None:
    values = {other: text for other, text in GOOD.items() if other != name}
    if not any(other.startswith(name.rpartition(".")[0]) for other in values):
        name = name.rpartition(".")[0]  # the block has gone with its only key
    assert complaint(write(tmp_path, values)).startswith(f"{name} is missing; ")


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults(name: str, tmp_path: Path) -> None:
    values = {other: text for other, text in GOOD.items() if other != name}
    assert value_of(load_params(write(tmp_path, values)), name) == DEFAULTS[name]


def test_threads_of_a_model(tmp_path: Path) -> None:
    values = {**GOOD, "train.threads": "3"}
    for own, expected in (("2", 2), ("null", 3)):
        assert load_params(write(tmp_path, {**values, "model_0.threads": own})).threads("model_0") == expected


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("sed", "seed"),
        ("model", "model_0"),
        ("model0", "model_0"),
        ("model_zero", "model_0"),
        ("trian", "train"),
        ("fetch.sorce", "source"),
        ("fetch.synthetic.tests", "test"),
        ("prepare.validations", "validation"),
        ("train.thread", "threads"),
        ("model_0.hidden_unit", "hidden_units"),
        ("model_0.epoch", "epochs"),
        ("model_0.batchsize", "batch_size"),
        ("confusion.sample", "samples"),
    ],
)
def test_typo_suggests_nearest_key(name: str, nearest: str, tmp_path: Path) -> None:
    assert complaint(write(tmp_path, {**GOOD, name: "1"})) == f"unknown key {name}; did you mean {nearest}?"


@pytest.mark.parametrize("name", ["model_0.LR", "model_0.dropout"])
def test_unknown_key_lists_known_ones(name: str, tmp_path: Path) -> None:
    message = complaint(write(tmp_path, {**GOOD, name: "1"}))
    assert message.startswith(f"unknown key {name}; ")
    assert message.endswith(": " + ", ".join(ModelParams.model_fields))


@pytest.mark.parametrize("key", ["null", "3", "[1, 2]", '"a\\nb"', '"\\e[31mred"', "true", '""', "models"])
def test_unknown_key_of_any_kind(key: str, tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.write_text(f"{path.read_text()}? {key}\n: {{}}\n")
    assert complaint(path).startswith("unknown key ")


@pytest.mark.parametrize("name", ["fetch", "fetch.synthetic", "prepare", "train", "model_0", "evaluate", "compare"])
@pytest.mark.parametrize("text", ["3", "null", "[a]", "fast"])
def test_value_in_place_of_a_block(name: str, text: str, tmp_path: Path) -> None:
    values = {other: value for other, value in GOOD.items() if not other.startswith(f"{name}.")}
    assert re.match(rf"{re.escape(name)} is .+ block of keys$", complaint(write(tmp_path, {**values, name: text})))


@pytest.mark.parametrize("content", [b"", b"# nothing but a comment\n", b"- seed\n- 42\n", b"seed"])
def test_file_without_keys(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    assert "must hold keys" in complaint(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "content",
    [
        b"seed: [1, 2",
        b"seed: 1\n\tlr: 2\n",
        b"seed: 1\nseed: 2\n",
        b"seed: 1\n---\nseed: 2\n",
        b"seed: \x00\n",
        b"seed: \xff\xfe\n",
        b"\x89PNG\r\n\x1a\n",
        b"seed: *nowhere\n",
        b"seed: !!python/object/apply:os.system ['touch owned']\n",
        b"seed: 2024-99-99\n",
        b"seed: !!int ten\n",
        b"seed: !!int ''\n",
        b"seed: !!bool maybe\n",
        b"seed: 1" + b"0" * 5000 + b"\n",
        b"seed: " + b"[" * 1000 + b"\n",
    ],
    ids=lambda content: str(content[:24]),
)
def test_no_valid_yaml(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes(content)
    assert complaint(tmp_path / "params.yaml").startswith("cannot be read as YAML: ")
    assert not (tmp_path / "owned").exists()


BOMB = "[&a0 [x, x], " + ", ".join(f"&a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 50)) + "]"  # 2 ** 50 times x


@pytest.mark.parametrize(
    ("name", "text"), [("fetch.mirrors", "[&a x, *a]"), ("fetch.mirrors", "[&a {b: c}, {<<: *a}]"), ("seed", BOMB)]
)
def test_no_aliases(name: str, text: str, tmp_path: Path) -> None:
    """What they stand for can grow without bounds, and `dvc exp run -S` writes it out."""
    assert re.search(r"alias.*line \d+", complaint(write(tmp_path, {**GOOD, name: text})))


def test_long_value_is_cut_short(tmp_path: Path) -> None:
    for text in ('"' + "x" * 10_000 + '"', "0x" + "f" * 10_000):
        assert len(complaint(write(tmp_path, {**GOOD, "seed": text}))) < 200


def test_duplicate_key_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.write_text(path.read_text() + "seed: 43\n")
    assert '"seed"' in complaint(path)


def test_missing_file(tmp_path: Path) -> None:
    assert complaint(tmp_path / "params.yaml").startswith("is missing; ")


def test_models_in_order_of_numbers(tmp_path: Path) -> None:
    block = {name: text for name, text in GOOD.items() if name.startswith("model_0")}
    values = GOOD | {name.replace("_0", f"_{number}"): text for name, text in block.items() for number in (10, 2)}
    path = write(tmp_path, values)
    params = load_params(path)
    assert list(params.models) == ["model_0", "model_2", "model_10"]
    assert params.model("model_10") == params.model("model_0")

    longest = f"model_1{'0' * 5000}"  # Python makes no number of so many digits
    path.write_text(
        f"{path.read_text()}? {longest}\n: {{arch: mlp, hidden_units: 1, epochs: 1, batch_size: 1, lr: 1}}\n"
    )
    assert list(load_params(path).models)[-1] == longest


def test_unknown_model_lists_known_ones(tmp_path: Path) -> None:
    params = load_params(write(tmp_path, GOOD))
    assert re.search(r"'model_9'.*: model_0$", refusal(params.model, "model_9"))


def test_file_without_models(tmp_path: Path) -> None:
    params = load_params(write(tmp_path, {name: text for name, text in GOOD.items() if "model" not in name}))
    assert refusal(params.model, "model_0").endswith(": none")


def test_no_parameter_reaches_a_shell() -> None:
    stages = YAML(typ="safe").load(PROJECT / "dvc.yaml")["stages"]
    assert not [name for name, stage in stages.items() if "$" in stage["cmd"]]


NAMES = st.sampled_from(sorted(GOOD.keys() - {"model_0.settings"}))  # a block of any keys: the architecture knows them
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates() | st.binary()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what GOOD is as YAML."""
    return YAML(typ="safe").load(write(tmp_path_factory.mktemp("good"), GOOD))


@pytest.mark.parametrize("text", ["3", "[pooling]", "null", "avg", "{1: 2}"])
def test_settings_that_are_no_block(text: str, tmp_path: Path) -> None:
    assert "model_0.settings" in complaint(write(tmp_path, {**GOOD, "model_0.settings": text}))


@given(name=NAMES, value=VALUES)
def test_any_value_is_taken_or_refused(
    name: str, value: Any, tree: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "values.yaml"
    changed = deepcopy(tree)
    *blocks, last = name.split(".")
    node = changed
    for block in blocks:
        node = node[block]
    node[last] = value
    YAML(typ="safe", pure=True).dump(changed, path)
    try:
        params = load_params(path)
    except UserError as error:
        message = str(error).removeprefix(str(path))
        # ruamel writes some odd keys so that it cannot read them again
        assert re.match(rf"(: {re.escape(name)}[.\d]* is .+; it should | cannot be read as YAML: )", message)
        assert "\n" not in message
    else:
        taken = value_of(params, name)
        assert taken == value
        assert not isinstance(taken, float) or math.isfinite(taken)


@given(name=NAMES, text=st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_is_taken_or_refused(name: str, text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.getbasetemp(), {**GOOD, name: text})
    try:
        assert isinstance(load_params(path), Params)
    except UserError as error:
        message = str(error)
        assert message.startswith(str(path))
        assert "\n" not in message


@given(content=st.binary(max_size=60) | st.text("ab01-:[]{}\"'#&*!|>%@,. \n\t", max_size=40).map(str.encode))
def test_any_bytes_are_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    complaint(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_0.momentum": "0", "model_0.nesterov": "true"}, "model_0.nesterov is True"),
        ({"model_0.optimizer": "adam"}, "model_0.momentum is 0.9"),
        ({"model_0.momentum": "1.0"}, "model_0.momentum is 1.0"),
        ({"model_0.label_smoothing": "1"}, "model_0.label_smoothing is 1"),
        ({"model_0.ema": "-0.1"}, "model_0.ema is -0.1"),
        ({"model_0.weight_decay": ".nan"}, "model_0.weight_decay is nan"),
        ({"model_0.augment": "flip"}, "model_0.augment is 'flip'"),
        ({"model_0.augment": "[flip, turn]"}, "model_0.augment.1 is 'turn'"),
        ({"model_0.augment": "[shift, shift]"}, "model_0.augment is ['shift', 'shift']"),
        ({"model_0.nesterov": "1"}, "model_0.nesterov is 1"),
    ],
)
def test_impossible_recipe(changes: dict[str, str], said: str, tmp_path: Path) -> None:
    assert complaint(write(tmp_path, GOOD | changes)).startswith(said)
