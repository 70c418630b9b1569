"""Take the versions in versions.toml from requirements.txt: the end of `make lock`.

requirements.txt may hold a library in several versions, for older and newer Python; the committed results were made
with the one for the oldest.
"""

import re
from argparse import ArgumentParser
from pathlib import Path

from stages.lib.base.errors import exit_cleanly
from stages.lib.base.files import write_text
from stages.lib.base.versions import VERSIONS

REQUIREMENTS = Path("requirements.txt")


def main() -> None:
    """Rewrite each line of versions.toml that names a library; keep the comments."""
    ArgumentParser(prog="python -m stages.commands.lock_versions").parse_args()
    pinned = dict(reversed(re.findall(r"^([\w-]+)==([\w.]+)", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)))
    text = VERSIONS.read_text(encoding="utf-8")
    write_text(VERSIONS, re.sub(r"^([\w-]+) = .*$", lambda line: f'{line[1]} = "{pinned[line[1]]}"', text, flags=re.M))


if __name__ == "__main__":
    exit_cleanly("lock", main)
