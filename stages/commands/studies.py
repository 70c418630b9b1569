"""Run the studies: `make studies`, or `python -m stages.commands.studies seeds` for one of them.

A study is a pipeline of its own, studies/NAME/dvc.yaml. Only those of its trainings run that have changed, as many at
the same time as there are CPUs, each on one thread. `dvc repro studies/NAME/dvc.yaml` does the same, one after another.
"""

import sys
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stages.commands.run import alone_in_this_folder, dvc
from stages.commands.state import dvc_status
from stages.commands.yaml_files import STUDY_PIPELINES
from stages.lib.base.errors import UserError, exit_cleanly
from stages.lib.base.files import write_text
from stages.lib.base.params import Params, load_params
from stages.lib.base.process import cpus
from studies.record import MODELS

HANDS = 8  # how often a process is dealt cells, if all take the same time


def main() -> None:
    """Say which models there are, get the data, run what has changed."""
    pipelines = parse_pipelines()
    with alone_in_this_folder():
        write_models(load_params())
        status = dvc("repro", "prepare") or train_cells(changed_cells(pipelines)) or dvc("repro", *pipelines)
    sys.exit(status)


def write_models(params: Params) -> None:
    """Write the models and their architectures for the matrix of each study, unless the file says so already.

    DVC can look up neither in params.yaml: which keys are models, and what `arch` is in the block of an item.
    """
    lines = [f"- {{name: {name}, arch: {model.arch}}}\n" for name, model in params.models.items()]
    heading = "# The models of params.yaml and their architectures: `make studies` writes this file.\nmodels:\n"
    text = "".join([heading, *lines])
    if not MODELS.exists() or MODELS.read_text(encoding="utf-8") != text:
        write_text(MODELS, text)


def changed_cells(pipelines: list[str]) -> list[str]:
    """Return the stages that train and that DVC would run again."""
    return [stage for stage in dvc_status(*pipelines) if ":cell@" in stage]


def train_cells(cells: list[str]) -> int:
    """Train the cells, dealt out to as many processes as there are CPUs.

    DVC runs one stage after the other, but several of it take turns at its lock and train outside it. Each gets a few
    cells, and more when it has done them: all end at about the same time, and DVC, which takes seconds, seldom starts.

    Returns:
        The exit status of DVC, 0 if all went well or there was nothing to do.
    """
    workers = min(cpus(), len(cells))
    if workers < 2:
        return 0  # the pipelines themselves train them
    few = -(-len(cells) // (HANDS * workers))
    hands = [cells[first : first + few] for first in range(0, len(cells), few)]
    with ThreadPoolExecutor(workers) as pool:
        return max(pool.map(lambda hand: dvc("--wait-for-lock", "repro", "--single-item", *hand), hands))


def parse_pipelines() -> list[str]:
    """Return the dvc.yaml of each study named on the command line, or of all."""
    known = {path.parent.name: str(path) for path in sorted(Path().glob(STUDY_PIPELINES))}
    parser = ArgumentParser(prog="python -m stages.commands.studies", description="Run the studies.")
    parser.add_argument("study", nargs="*", help=f"one of {', '.join(known)}; all unless given")
    names = parser.parse_args().study or known
    for name in names:
        if name not in known:
            raise UserError(f"there is no study {name!r}; there are: {', '.join(known)}")
    return [known[name] for name in names]


if __name__ == "__main__":
    exit_cleanly("studies", main)
