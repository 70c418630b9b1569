"""The oldest versions of the libraries that the figures were made with."""

from importlib.metadata import version

from packaging.version import Version

from stages.lib.errors import UserError

MINIMUM = {"torch": "2.11", "torchvision": "0.26"}


def check_versions(*libraries: str) -> dict[str, str]:
    """Installed versions of `libraries`, read without importing them.

    Raises:
        UserError: one is older than it must be.
    """
    installed = {library: version(library) for library in libraries}
    for library, found in installed.items():
        if Version(found) < Version(MINIMUM[library]):
            raise UserError(f"{library} {found} is too old; {MINIMUM[library]} or newer is needed: run `make setup`")
    return installed
