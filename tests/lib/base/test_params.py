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
from ruamel.yaml import YAML

from stages.lib.base.errors import UserError
from stages.lib.base.params import ModelParams, Params, load_params

PROJECT = Path(__file__).parents[2]

GOOD = {
    "seed": "42",
    "fetch.source": "synthetic",
    "fetch.mirrors": "[https://example.org/, /srv/mirror]",
    "fetch.synthetic.train": "6000",
    "fetch.synthetic.test": "1000",
    "prepare.validation": "0",
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
    "evaluate.batch_size": "32",
    "compare.by": "accuracy",
    "confusion.samples": "9",
    "confusion.mistakes": "9",
}
WHOLE_NUMBERS = {  # the lowest and the highest that are allowed
    "seed": (0, 2**32 - 1),
    "fetch.synthetic.train": (10, 10_000_000),
    "fetch.synthetic.test": (10, 10_000_000),
    "prepare.validation": (0, 10_000_000),
    "train.threads": (1, 256),
    "train.processes": (1, 256),
    "model_0.hidden_units": (1, 4096),
    "model_0.epochs": (1, 10_000),
    "model_0.batch_size": (1, 65_536),
    "model_0.threads": (1, 256),
    "evaluate.batch_size": (1, 65_536),
    "confusion.samples": (1, 100),
    "confusion.mistakes": (1, 100),
}
CHOICES = {
    "fetch.source": ["fashion-mnist", "synthetic"],
    "train.device": ["auto", "cpu", "cuda", "mps"],
    "train.precision": ["float32", "bfloat16"],
    "model_0.arch": ["linear", "mlp", "tiny_vgg"],
    "model_0.memory_format": ["contiguous", "channels_last"],
    "compare.by": ["accuracy", "loss"],
}
DEFAULTS = {
    "train.precision": "float32",
    "train.processes": 1,
    "model_0.memory_format": "contiguous",
    "model_0.threads": None,
}
NO_NUMBERS = ["true", "null", "~", '""', "'42'", "ten", "[1]", "{a: 1}", ".nan", ".inf", "-.inf", "2024-01-01", "1e400"]
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
    """A params.yaml with these values, YAML text by full key."""
    path = folder / "params.yaml"
    path.write_text("\n".join(lines_of(nested(values))) + "\n", encoding="utf-8")
    return path


def nested(values: dict[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, text in values.items():
        *blocks, key = name.split(".")
        node = tree
        for block in blocks:
            node = node.setdefault(block, {})
        node[key] = text
    return tree


def lines_of(tree: dict[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from lines_of(value, indent + "  ")
        else:
            yield f"{indent}{key}: {value}"


def complaint(path: Path) -> str:
    """The error that `path` gives, checked to be one line that starts with the file."""
    with pytest.raises(UserError) as caught:
        load_params(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.isprintable(), message
    return message.removeprefix(str(path)).lstrip(": ")


def value_of(params: Params, name: str) -> Any:
    value: Any = params
    for part in name.split("."):
        value = value.models[part] if part.startswith("model_") else getattr(value, part)
    return value


def test_the_projects_own_file_holds_the_lectures_settings() -> None:
    params = load_params(PROJECT / "params.yaml")
    lecture = {"hidden_units": 10, "epochs": 3, "batch_size": 32, "lr": 0.1}
    assert params.seed == 42
    assert params.models == {
        "model_0": ModelParams(arch="linear", **lecture, threads=1),  # type: ignore[arg-type]
        "model_1": ModelParams(arch="mlp", **lecture, threads=1),  # type: ignore[arg-type]
        "model_2": ModelParams(arch="tiny_vgg", **lecture, memory_format="channels_last"),  # type: ignore[arg-type]
    }
    assert (params.prepare.validation, params.evaluate.batch_size) == (0, 32)


def test_every_key_of_the_projects_file_is_tried_here() -> None:
    def names(tree: Any, prefix: str = "") -> set[str]:
        if not isinstance(tree, dict):
            return {prefix[:-1]}
        return {name for key, value in tree.items() for name in names(value, f"{prefix}{key}.")}

    tree = YAML(typ="safe").load(PROJECT / "params.yaml")
    assert {re.sub(r"model_\d", "model_0", name) for name in names(tree)} == set(GOOD)


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
def test_a_whole_number_is_taken_up_to_its_bounds_and_no_further(name: str, tmp_path: Path) -> None:
    low, high = WHOLE_NUMBERS[name]
    for number in (low, high):
        taken = value_of(load_params(write(tmp_path, {**GOOD, name: str(number)})), name)
        assert (taken, type(taken)) == (number, int)
    allowed = f"a whole number from {low:,} to {high:,}"
    for number in (low - 1, high + 1, -1_000_000, 10**30):
        message = complaint(write(tmp_path, {**GOOD, name: str(number)}))
        assert message == f"{name} is {number}; it must be {allowed}"
    for text in [*NO_NUMBERS, f"{low + 0.5}", f"{low}.0"]:
        message = complaint(write(tmp_path, {**GOOD, name: text}))
        assert message.startswith(f"{name} is ")
        assert message.endswith(f"; it must be {allowed}")


@pytest.mark.parametrize(
    ("text", "lr"),
    [("1e-3", 0.001), ("1E-3", 0.001), ("0.1", 0.1), ("1", 1.0), ("1000", 1000.0), ("+.5", 0.5), ("5e-324", 5e-324)],
)
def test_a_learning_rate_is_read_as_dvc_reads_it(text: str, lr: float, tmp_path: Path) -> None:
    taken = load_params(write(tmp_path, {**GOOD, "model_0.lr": text})).model("model_0").lr
    assert (taken, type(taken)) == (lr, float)


@pytest.mark.parametrize(
    "text", [*NO_NUMBERS, "0", "0.0", "-0.0", "-0.1", "1000.5", "1e300", "1_0a", "0.1.2", "1" + "0" * 400]
)
def test_an_impossible_learning_rate_is_refused(text: str, tmp_path: Path) -> None:
    message = complaint(write(tmp_path, {**GOOD, "model_0.lr": text}))
    assert message.startswith("model_0.lr is ")
    assert message.endswith("; it must be a number above 0, up to 1,000")


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_takes_its_words_and_no_others(name: str, tmp_path: Path) -> None:
    for word in CHOICES[name]:
        assert value_of(load_params(write(tmp_path, {**GOOD, name: word})), name) == word
    allowed = "; it must be one of " + ", ".join(CHOICES[name])
    for word in [*INJECTIONS, "__init__", CHOICES[name][0].upper(), f" {CHOICES[name][0]}"]:
        message = complaint(write(tmp_path, {**GOOD, name: f'"{word}"'.replace("\n", "\\n")}))
        assert message == f"{name} is {word!r}{allowed}"
    for text in NO_WORDS:
        message = complaint(write(tmp_path, {**GOOD, name: text}))
        assert message.startswith(f"{name} is ")
        assert message.endswith(allowed)


def test_mirrors_are_a_list_of_addresses_and_folders(tmp_path: Path) -> None:
    params = load_params(write(tmp_path, {**GOOD, "fetch.mirrors": "[https://a/, /srv/b, ../c]"}))
    assert params.fetch.mirrors == ("https://a/", "/srv/b", "../c")


@pytest.mark.parametrize("text", ["https://a/", "3", "null", "{a: b}", "[3]", "[null]", '["a", ""]', '[" "]', "[[a]]"])
def test_mirrors_of_another_kind_are_refused(text: str, tmp_path: Path) -> None:
    message = complaint(write(tmp_path, {**GOOD, "fetch.mirrors": text}))
    assert message.startswith("fetch.mirrors is ")
    assert message.endswith("; it must be a list of addresses or folders")


@pytest.mark.parametrize("name", [name for name in GOOD if name not in DEFAULTS])
def test_a_missing_key_is_named(name: str, tmp_path: Path) -> None:
    values = {other: text for other, text in GOOD.items() if other != name}
    if not any(other.startswith(name.rpartition(".")[0]) for other in values):
        name = name.rpartition(".")[0]  # the block has gone with its only key
    message = complaint(write(tmp_path, values))
    assert message == f"{name} is missing; the comments in params.yaml say what it takes"


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_key_that_may_be_left_out_has_the_lectures_value(name: str, tmp_path: Path) -> None:
    values = {other: text for other, text in GOOD.items() if other != name}
    assert value_of(load_params(write(tmp_path, values)), name) == DEFAULTS[name]


def test_a_model_trains_on_its_own_number_of_threads_or_on_that_for_all(tmp_path: Path) -> None:
    own = {**GOOD, "train.threads": "3", "model_0.threads": "2"}
    assert load_params(write(tmp_path, own)).threads("model_0") == 2
    del own["model_0.threads"]
    assert load_params(write(tmp_path, own)).threads("model_0") == 3


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("sed", "did you mean seed?"),
        ("model", "did you mean model_0?"),
        ("model0", "did you mean model_0?"),
        ("model_zero", "did you mean model_0?"),
        ("trian", "did you mean train?"),
        ("fetch.sorce", "did you mean source?"),
        ("fetch.synthetic.tests", "did you mean test?"),
        ("prepare.validations", "did you mean validation?"),
        ("train.thread", "did you mean threads?"),
        ("model_0.hidden_unit", "did you mean hidden_units?"),
        ("model_0.epoch", "did you mean epochs?"),
        ("model_0.batchsize", "did you mean batch_size?"),
        ("model_0.LR", "known here: arch, hidden_units, epochs, batch_size, lr, memory_format, threads"),
        ("model_0.momentum", "known here: arch, hidden_units, epochs, batch_size, lr, memory_format, threads"),
        ("confusion.sample", "did you mean samples?"),
    ],
)
def test_a_typo_is_refused_and_the_nearest_key_suggested(name: str, advice: str, tmp_path: Path) -> None:
    assert complaint(write(tmp_path, {**GOOD, name: "1"})) == f"unknown key {name}; {advice}"


@pytest.mark.parametrize("key", ["null", "3", "[1, 2]", '"a\\nb"', '"\\e[31mred"', "true", '""'])
def test_an_unknown_key_of_any_kind_is_refused_in_one_line(key: str, tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.write_text(f"{path.read_text()}? {key}\n: 1\n")
    assert complaint(path).startswith("unknown key ")


@pytest.mark.parametrize("name", ["fetch", "fetch.synthetic", "prepare", "train", "model_0", "evaluate", "compare"])
@pytest.mark.parametrize("text", ["3", "null", "[a]", "fast"])
def test_a_block_must_be_a_block(name: str, text: str, tmp_path: Path) -> None:
    values = {other: value for other, value in GOOD.items() if not other.startswith(f"{name}.")}
    message = complaint(write(tmp_path, {**values, name: text}))
    assert re.fullmatch(rf"{re.escape(name)} is .+; it must be a block of keys", message)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "must hold keys such as `seed: 42`, not None"),
        (b"# nothing but a comment\n", "must hold keys such as `seed: 42`, not None"),
        (b"- seed\n- 42\n", "must hold keys such as `seed: 42`, not ['seed', 42]"),
        (b"seed", "must hold keys such as `seed: 42`, not 'seed'"),
        (b"seed: [1, 2", "is not valid YAML: "),
        (b"seed: 1\n\tlr: 2\n", "is not valid YAML: "),
        (b"seed: 1\nseed: 2\n", "is not valid YAML: "),
        (b"seed: 1\n---\nseed: 2\n", "is not valid YAML: "),
        (b"seed: \x00\n", "is not valid YAML: "),
        (b"seed: \xff\xfe\n", "is not valid YAML: "),
        (b"\x89PNG\r\n\x1a\n", "is not valid YAML: "),
        (b"seed: *nowhere\n", "is not valid YAML: "),
        (b"seed: !!python/object/apply:os.system ['touch owned']\n", "is not valid YAML: "),
        (b"seed: 2024-99-99\n", "is not valid YAML: "),
        (b"seed: !!int ten\n", "is not valid YAML: "),
        (b"seed: !!int ''\n", "is not valid YAML: "),
        (b"seed: !!bool maybe\n", "is not valid YAML: "),
        (b"seed: 1" + b"0" * 5000 + b"\n", "is not valid YAML: "),
        (b"seed: " + b"[" * 1000 + b"\n", "is not valid YAML: "),
    ],
    ids=lambda value: str(value[:24]) if isinstance(value, bytes) else "",
)
def test_a_file_that_is_no_settings_at_all_is_refused(content: bytes, says: str, workspace: Path) -> None:
    path = workspace / "params.yaml"
    path.write_bytes(content)
    assert complaint(path).startswith(says)
    assert not (workspace / "owned").exists()


def test_a_value_too_long_to_print_is_cut_short(tmp_path: Path) -> None:
    for text in ('"' + "x" * 10_000 + '"', "0x" + "f" * 10_000):
        assert len(complaint(write(tmp_path, {**GOOD, "seed": text}))) < 200


def test_a_duplicate_key_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.write_text(path.read_text() + "seed: 43\n")
    assert 'duplicate key "seed"' in complaint(path)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    assert complaint(tmp_path / "params.yaml").startswith("is missing; run from the project's folder")


def test_models_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    block = {name: text for name, text in GOOD.items() if name.startswith("model_0")}
    values = {name: text for name, text in GOOD.items() if name not in block}
    for number in (10, 2, 0):
        values |= {name.replace("model_0", f"model_{number}"): text for name, text in block.items()}
    params = load_params(write(tmp_path, values))
    assert list(params.models) == ["model_0", "model_2", "model_10"]
    assert params.model("model_10").lr == 0.1


def test_a_model_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    params = load_params(write(tmp_path, GOOD))
    with pytest.raises(UserError, match=r"no model named 'model_9' in params\.yaml; there are: model_0$"):
        params.model("model_9")


def test_a_file_without_models_loads_and_says_so_when_asked_for_one(tmp_path: Path) -> None:
    params = load_params(write(tmp_path, {name: text for name, text in GOOD.items() if "model" not in name}))
    with pytest.raises(UserError, match=r"there are: none$"):
        params.model("model_0")


def test_no_parameter_reaches_a_shell() -> None:
    stages = YAML(typ="safe").load(PROJECT / "dvc.yaml")["stages"]
    assert not [name for name, stage in stages.items() if "$" in stage["cmd"]]


NAMES = st.sampled_from(sorted(GOOD))
TREE = YAML(typ="safe").load("\n".join(lines_of(nested(GOOD))))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates() | st.binary()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


@given(name=NAMES, value=VALUES)
def test_any_value_for_any_key_is_taken_or_refused_by_name(
    name: str, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "values.yaml"
    tree = deepcopy(TREE)
    *blocks, last = name.split(".")
    node = tree
    for block in blocks:
        node = node[block]
    node[last] = value
    YAML(typ="safe", pure=True).dump(tree, path)
    try:
        params = load_params(path)
    except UserError as error:
        message = str(error)
        assert message.startswith(f"{path}: {name} is ")
        assert "\n" not in message
    else:
        taken = value_of(params, name)
        assert taken == (tuple(value) if isinstance(value, list) else value)
        assert not isinstance(taken, float) or math.isfinite(taken)


@given(name=NAMES, text=st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_for_any_value_is_taken_or_refused(
    name: str, text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.getbasetemp(), {**GOOD, name: text})
    try:
        assert isinstance(load_params(path), Params)
    except UserError as error:
        message = str(error)
        assert message.startswith(str(path))
        assert "\n" not in message


@given(content=st.binary(max_size=60) | st.text("ab01-:[]{}\"'#&*!|>%@,. \n\t", max_size=40).map(str.encode))
def test_any_bytes_at_all_are_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_params(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
