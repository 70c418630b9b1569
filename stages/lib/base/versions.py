"""versions.toml: the library versions that the committed results were made with, an input like any other."""

import sys
import tomllib
from importlib.metadata import distributions, version
from pathlib import Path

from packaging.version import Version

from stages.lib.base.errors import UserError

VERSIONS = Path("versions.toml")
MINIMUM = {"torch": "2.11", "torchvision": "0.26"}


def check_versions(*libraries: str) -> None:
    """Say on stderr which of `libraries` has another version than the one recorded. Imports none of them.

    Raises:
        UserError: one is older than the code needs, or versions.toml does not know it.
    """
    recorded = read_versions()
    for library in libraries:
        installed = Version(version(library))
        if installed < Version(MINIMUM.get(library, "0")):
            needed = f"{MINIMUM[library]} or newer is needed"
            raise UserError(f"{library} {installed} is too old; {needed}: remove .venv and run `make setup`")
        if library not in recorded:
            raise UserError(f"{VERSIONS} does not name {library}; restore it from git, or run `make lock`")
        if installed.public != recorded[library]:
            print(
                f"warning: {library} is {installed.public} here, but {recorded[library]} in {VERSIONS}: results may "
                "differ from the committed ones in their last digits",
                file=sys.stderr,
            )


def read_versions() -> dict[str, str]:
    """Return the recorded version of each library.

    Raises:
        UserError: the file is missing or no TOML.
    """
    try:
        return dict(tomllib.loads(VERSIONS.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{VERSIONS} is missing; run from the project's folder, or restore it from git") from None
    except ValueError as error:
        raise UserError(f"{VERSIONS} is not valid TOML: {error}; restore it from git") from None


def installed_version(library: str) -> str:
    """Return the version of a library here, without what follows a plus, such as +cpu; `none` if it is not here."""
    return next((Version(found.version).public for found in distributions(name=library)), "none")
