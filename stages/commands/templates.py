"""How the templates of pages and Markdown files are filled in."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment_of(folder: Path, *, autoescape: bool) -> Environment:
    """Return what fills in the templates of a folder; a value that a template names and does not get is an error.

    Args:
        folder: where they lie.
        autoescape: whether values become HTML text, whatever is in them; for Markdown filters of its own do that.
    """
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=autoescape,  # noqa: S701 - said by the caller
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
