"""Mutation testing: `make mutate`, or `python -m tests.mutation --max-children 1` for one process only.

mutmut changes the modules that decide results, one spot at a time, and runs the tests that reach the spot: a change
that no test notices is a gap. What is changed, and the tests that are run, stand in pyproject.toml under [tool.mutmut].
All of it happens in a copy of the project, in `.mutation/`; `mutmut show NAME` there prints any change.

Prints the changes that survived and a table, and fails where fewer than 85 % are noticed. tests/mutants.md has the
results and says of every survivor why it may live.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter

from tests.helpers import PROJECT

WORK = PROJECT / ".mutation"
COPIED = (
    "docs",
    "dvc.lock",
    "dvc.yaml",
    "metrics",
    "params.yaml",
    "pyproject.toml",
    "stages",
    "studies",
    "tests",
    "versions.toml",
)
NEEDED_PCT = 85.0
NEEDS_GPU = "stages.lib.learning.steps.x__capture__"  # records a CUDA graph: nothing here can run it
NOTICED = ("killed", "timeout")
# The same processes and the same order of tests in every run.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


def main() -> None:
    copy_project()
    mutmut("run", *sys.argv[1:])
    found = re.findall(r"^ +(\S+): ([a-z ]+)$", mutmut("results", "--all", "true"), re.MULTILINE)
    results = {name: result for name, result in found if not name.startswith(NEEDS_GPU)}
    for name, result in results.items():
        if result not in NOTICED:
            print(f"\n{name}: {result}")
            print(*(line for line in mutmut("show", name).splitlines() if re.match(r"[-+](?!--|\+\+)", line)), sep="\n")
    sys.exit(0 if print_table(results) >= NEEDED_PCT else f"fewer than {NEEDED_PCT:g} % of the mutants were killed")


def copy_project() -> None:
    """Copy what is tested. mutmut leaves decorated functions alone, so what torch decorates is wrapped by a call."""
    shutil.rmtree(WORK, ignore_errors=True)
    for name in COPIED:
        ignore = shutil.ignore_patterns("__pycache__")
        path = PROJECT / name
        shutil.copytree(path, WORK / name, ignore=ignore) if path.is_dir() else shutil.copy(path, WORK)
    for module in WORK.glob("stages/lib/**/*.py"):
        text = module.read_text(encoding="utf-8")
        decorated = re.findall(r"^@(torch\.\w+\(\))\ndef (\w+)", text, re.MULTILINE)
        for decorator, function in decorated:
            text = text.replace(f"@{decorator}\ndef {function}(", f"def {function}(")
            text += f"\n\n{function} = {decorator}({function})\n"
        module.write_text(text, encoding="utf-8")


def mutmut(*arguments: str) -> str:
    """Run mutmut in the copy; `run` prints as it goes, the output of others is returned."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    output = None if arguments[0] == "run" else subprocess.PIPE
    done = subprocess.run(command, cwd=WORK, env=ENVIRONMENT, stdout=output, text=True, check=False)
    if done.returncode:
        sys.exit(f"mutmut {arguments[0]} failed")
    return done.stdout or ""


def print_table(results: dict[str, str]) -> float:
    """Print mutants and kills of each module as Markdown; return the percentage of all that were killed."""
    mutants = Counter(name.split(".x")[0] for name in results)
    killed = Counter(name.split(".x")[0] for name, result in results.items() if result in NOTICED)
    print("\n| module | mutants | killed | % |\n|---|---:|---:|---:|")
    for module, count in sorted(mutants.items()):
        path = module.replace(".", "/") + ".py"
        print(f"| {path} | {count} | {killed[module]} | {killed[module] / count * 100:.1f} |")
    killed_pct = killed.total() / mutants.total() * 100
    print(f"| all | {mutants.total()} | {killed.total()} | {killed_pct:.1f} |")
    return killed_pct


if __name__ == "__main__":
    main()
