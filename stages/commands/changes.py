"""What changed since another commit, as Markdown: `python -m stages.commands.report --markdown BASE`.

For a pull request. It reads what git keeps, and git alone knows the other commit: neither data nor models are needed.
Names and values come from whoever wrote the commits, so all of them are shown as code: no text of theirs becomes
markup, a link or a mention.

Shapes: N images.
"""

import csv
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import UndefinedError

from stages.commands.experiments import AFTERWARDS, contradiction, tree_of
from stages.commands.state import State, changed, flat, git, git_state, older_than_read
from stages.commands.templates import environment_of
from stages.commands.yaml_files import PARAMS
from stages.lib.base.errors import UserError, printable
from stages.lib.base.lock import LOCK
from stages.lib.results.statistics import difference_interval, mcnemar_test, verdict
from stages.lib.results.summary import ABOUT, pair_text

TEMPLATE = Path(__file__).with_name("changes.md.j2")
COMPARISON = "metrics/compare.json"
PICTURES = {
    "Loss and accuracy by epoch": "plots/curves.png",
    "Confusion matrix of the best model": "plots/confusion.png",
}
CODE = ("stages", "dvc.yaml", "requirements.txt")
MOST_BYTES = 60_000  # GitHub takes comments of up to 65,536 characters
MOST_ROWS = (200, 50, 10, 0)  # of a table, the first that makes it short enough
LONGEST = 80  # characters of one name or value
WORDS = re.compile(r"(?:[\w .,:+()%=-]|< )+", re.ASCII)  # mean nothing to Markdown, in the sentences that we make


def render(base: str, address: str | None) -> str:
    """Return what changed since the commit `base` as Markdown.

    Args:
        base: a commit, branch or tag.
        address: of the repository on GitHub, where readers find its pictures; None leaves them out.

    Raises:
        UserError: git does not know `base`, or a file of one of the two states is damaged.
    """
    state = git_state()
    if not state:
        raise UserError("there is no git repository here, and git alone knows another commit")
    revision = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}")
    if not revision:
        raise UserError(f"git knows no commit {base} here; is the clone shallow? `git fetch --unshallow` gets the rest")
    before, now = State(revision, revision[:7]), State(None, "now")
    environment = environment_of(TEMPLATE.parent, autoescape=False)
    environment.filters |= {"code": code, "percent": percent, "loss": loss, "difference": difference, "words": words}
    try:
        values = gather(before, now) | {"git": state, "address": address}
        template = environment.get_template(TEMPLATE.name)
        texts = (re.sub(r"\n{3,}", "\n\n", template.render(values, most=most)) for most in MOST_ROWS)
        return next(text for text in texts if len(text.encode()) <= MOST_BYTES)
    except (KeyError, UndefinedError) as missing:
        raise UserError(f"metrics/ lack {missing}: older code wrote them; run `dvc repro`") from None


def gather(before: State, now: State) -> dict[str, Any]:
    """Return the data for the template."""
    comparison = now.tree(COMPARISON)
    models = model_rows(before, now)
    return {
        "before": before,
        "now": now,
        "params": differences(parameters(before), parameters(now)),
        "code_files": (git("diff", "--name-only", str(before.revision), "--", *CODE) or "").splitlines(),
        "contradiction": contradiction(before),
        "outdated": changed([row["name"] for row in models if row["now"]]),
        "same_images": test_images(before) == test_images(now),
        "images": test_images(now),
        "models": models,
        "best": best_text(before, now),
        "pairs": [pair_text(pair) for pair in comparison.get("pairs", [])],
        "about": ABOUT,
        "metrics": differences(before.metrics(), now.metrics()),
        "pictures": [
            {"title": title, "path": path, "before": before.picture(path), "now": now.picture(path)}
            for title, path in PICTURES.items()
        ],
    }


def parameters(state: State) -> dict[tuple[str, str], Any]:
    """Return parameters and library versions, by file and key."""
    versions = re.findall(r'^(\S+) = "(.*)"$', state.text("versions.toml") or "", re.MULTILINE)
    values = {(PARAMS.name, key): value for key, value in flat(state.tree(PARAMS.name))}
    return values | {("versions.toml", library): version for library, version in versions}


def differences(before: dict[tuple[str, str], Any], now: dict[tuple[str, str], Any]) -> list[dict[str, Any]]:
    """Return what differs, in the order in which it stands now, and then what is gone."""
    keys = [*now, *(key for key in before if key not in now)]
    different = [key for key in keys if key not in before or key not in now or before[key] != now[key]]
    return [
        {"file": file, "key": key, "before": before.get((file, key)), "now": now.get((file, key))}
        for file, key in different
    ]


def test_images(state: State) -> tuple[Any, ...]:
    """Return what tells which test images they are: source, checksums of raw files and of themselves, shape, number."""
    data = state.tree("metrics/data.json")
    known = (data.get(key) for key in ("source", "sha256", "test_sha256", "shape"))
    return *known, block(data, "counts").get("test")


def model_rows(before: State, now: State) -> list[dict[str, Any]]:
    """Return for each model of either state its figures in both, and what the difference says."""
    tables = [block(state.tree(COMPARISON), "models") for state in (before, now)]
    names = [*tables[1], *(name for name in tables[0] if name not in tables[1])]
    comparable = test_images(before) == test_images(now)
    figures = {name: (block(tables[0], name), block(tables[1], name)) for name in names}
    return [
        {"name": name, "before": first, "now": second, **judge(first, second, comparable)}
        for name, (first, second) in figures.items()
    ]


def judge(before: dict[str, Any], now: dict[str, Any], comparable: bool) -> dict[str, Any]:
    """Say in a word what became of a model, and by how much its accuracy changed, with a 95 % interval."""
    interval = None
    if not before or not now:
        return {"change": interval, "verdict": "new" if now else "gone"}
    if before == now:
        return {"change": interval, "verdict": "the same"}
    first, second = accuracy(before), accuracy(now)
    if not comparable or first is None or second is None:
        return {"change": interval, "verdict": "not comparable"}
    interval = difference_interval(first, second)
    if interval[1] <= 0 <= interval[2]:
        return {"change": interval, "verdict": "cannot be told apart"}
    return {"change": interval, "verdict": "better" if interval[0] > 0 else "worse"}


def best_text(before: State, now: State) -> str | None:
    """Test the two best models on the same images; None where they are right on the same, or git cannot tell.

    The table of the confusion matrix has what the best model answers for each test image, in their order. Where
    confusion has not run since that model was chosen, it has the answers of another.
    """
    runs = [run for state in (before, now) for run in older_than_read(tree_of(state, LOCK).get("stages", {}))]
    if AFTERWARDS in dict(runs):
        return None
    names = [state.tree("metrics/best.json").get("model") for state in (before, now)]
    answers = [answers_of(state) for state in (before, now)]
    actual, correct_N = ([list(each[kind]) for each in answers] for kind in ("actual", "correct"))
    same_images = actual[0] == actual[1] and test_images(before) == test_images(now)
    if not all(names) or not actual[0] or not same_images or correct_N[0] == correct_N[1]:
        return None
    first, second = (f"{name} {when}" for name, when in zip(names, (f"of {before.name}", "now"), strict=True))
    test = mcnemar_test(*(np.array(each, dtype=bool) for each in correct_N))
    pair = {"first": first, "second": second, "p_value_holm": test.p_value}
    pair |= {"only_first_right": test.only_first, "only_second_right": test.only_second}
    return pair_text(pair | {"verdict": verdict(first, second, test, test.p_value)})


def answers_of(state: State) -> dict[str, list[Any]]:
    """Return for each test image its class, and whether the best model is correct."""
    rows = list(csv.DictReader((state.text("plots/confusion.csv") or "").splitlines()))
    actual = [row.get("actual") for row in rows]
    return {"actual": actual, "correct": [row.get("actual") == row.get("predicted") for row in rows]}


def block(tree: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the mapping under a key; an empty one where there is none."""
    value = tree.get(key)
    return value if isinstance(value, dict) else {}


def accuracy(row: dict[str, Any]) -> tuple[float, float, float] | None:
    """Return the accuracy of a model with its interval; None where one of the three is missing."""
    low, centre, high = (number(row.get(key)) for key in ("accuracy_low", "accuracy", "accuracy_high"))
    return None if low is None or centre is None or high is None else (centre, low, high)


def number(value: object) -> float | None:
    """Return a finite number as such, and None for all else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]


def percent(row: dict[str, Any]) -> str:
    """Write the accuracy of a model with its interval."""
    figures = accuracy(row)
    return f"{figures[0]:.2f} ({figures[1]:.2f} to {figures[2]:.2f})" if figures else "-"


def loss(row: dict[str, Any]) -> str:
    """Write the loss of a model."""
    value = number(row.get("loss"))
    return "-" if value is None else f"{value:.4f}"


def difference(row: dict[str, Any]) -> str:
    """Write by how much a figure changed; nothing where it is no figure on both sides."""
    before, now = number(row["before"]), number(row["now"])
    return "" if before is None or now is None else f"{now - before:+.6g}"


def code(value: object) -> str:
    """Write a name or value as code in Markdown, whatever it holds; a dash for what is missing."""
    if value is None:
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else printable(str(value))
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    if text.strip() == text != "" and not set("`|") & set(text):
        return f"`{text}`"
    return f"<code>{''.join(map(_escaped, text))}</code>"


def words(sentence: str) -> str:
    """Write a sentence of ours, or as code if a name in it holds anything that may be markup."""
    return sentence if WORDS.fullmatch(sentence) else code(sentence)


def address_of_repository() -> str | None:
    """Return the address of the repository on GitHub, as its runners know it; None elsewhere."""
    server, name = (os.environ.get(f"GITHUB_{word}") for word in ("SERVER_URL", "REPOSITORY"))
    return f"{server}/{name}" if server and name else None


def _escaped(letter: str) -> str:
    """Write a letter so that Markdown takes it for text: as an entity unless it is a letter, a digit or a space."""
    return letter if letter.isalnum() or letter == " " else f"&#{ord(letter)};"
