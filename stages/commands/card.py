"""The model card of the best model: `make card`, or `python -m stages.commands.card`.

Writes docs/model_card.md from what the stages wrote: what the model is for, its data, parameters, figures and limits.
The same results give the same card: it holds no time and no path of a machine. It needs neither data nor models.

No stage writes it. GitHub shows Markdown that lies in git, but as an output of a stage that would have to be one with
`cache: false`, which switches off the run cache of the stage; typed as metrics or plots, which do not, DVC would try to
read figures from it at every `dvc metrics show`. `make check-lock` says when the card is out of date.
"""

import argparse
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from stages.commands import outputs
from stages.commands.changes import code, words
from stages.commands.state import flat, git, older_than_read
from stages.commands.templates import environment_of
from stages.lib.base.errors import Outdated, UserError, exit_cleanly
from stages.lib.base.files import write_text
from stages.lib.base.lock import read_lock
from stages.lib.results.summary import ABOUT, pair_text

CARD = Path("docs/model_card.md")
TEMPLATE = Path(__file__).with_name("card.md.j2")


def main() -> None:
    """Write the card, or check it."""
    parser = argparse.ArgumentParser(prog="python -m stages.commands.card", description="Write the model card.")
    parser.add_argument("--check", action="store_true", help=f"write nothing: is {CARD} that of the results?")
    text = render()
    if not parser.parse_args().check:
        write_text(CARD, text)
        print(f"wrote {CARD}")
    elif not CARD.is_file() or CARD.read_text(encoding="utf-8") != text:
        raise UserError(f"{CARD} is not the card of the results here; run `make card` and commit it")
    elif git("status", "--porcelain", "--", str(CARD)):
        raise UserError(f"{CARD} is the card of the results here, but not committed; commit it")


def render() -> str:
    """Return the card as Markdown.

    Raises:
        UserError: something that a stage writes is missing or damaged.
    """
    environment = environment_of(TEMPLATE.parent, autoescape=False)
    environment.filters |= {"code": code, "words": words}
    try:
        return environment.get_template(TEMPLATE.name).render(gather())
    except (KeyError, UndefinedError) as missing:
        raise Outdated("metrics/compare.json", f"and what goes with it lack {missing}") from None


def check_one_run(lock: dict[str, Any]) -> None:
    """Check that each stage has read what the stages before it wrote last: parameters and figures are of one run.

    Raises:
        UserError: names a stage that has not run since.
    """
    for stage, path in older_than_read(lock):
        raise UserError(f"{path} is newer than what {stage} made of it; run `dvc repro`, and then `make card`")


def gather() -> dict[str, Any]:
    """Return the data for the template."""
    comparison = outputs.read_checked("metrics/compare.json", outputs.COMPARISON)
    best, lock = comparison["best"], read_lock()
    check_one_run(lock)
    classes = outputs.read_checked("plots/per_class.csv", outputs.CLASSES)
    recorded = lock.get(f"train_{best}", {}).get("params", {})
    return {
        "comparison": comparison,
        "best": best,
        "row": comparison["models"][best],
        "evaluated": outputs.read_checked(f"metrics/eval/{best}.json", outputs.EVALUATION),
        "trained": outputs.read_checked(f"metrics/train/{best}.json", outputs.TRAINING),
        "data": outputs.read_checked("metrics/data.json", outputs.DATA),
        "classes": classes,
        "weakest": min(classes, key=lambda each: each["recall"]),
        "params": list(flat(recorded.get("params.yaml", {}))),
        "versions": recorded.get("versions.toml", {}),
        "pairs": [pair_text(pair) for pair in comparison["pairs"] if best in (pair["first"], pair["second"])],
        "about": ABOUT,
    }


if __name__ == "__main__":
    exit_cleanly("card", main)
