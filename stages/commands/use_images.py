"""Use images of your own: `python -m stages.commands.use_images PATH`.

PATH is a folder or a zip with a folder for each class, or with train and test and the classes in both; a zip may be an
http(s):// address. Looks at every image, says what there is and what the pipeline will do with it, and writes source,
name, path and checksum into params.yaml. With a broken image nothing is written. Takes some milliseconds per image.
"""

import io
import sys
from argparse import ArgumentParser
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from stages.commands.yaml_files import PARAMS, dump_yaml, load_yaml
from stages.lib.base.errors import UserError, exit_cleanly, printable
from stages.lib.base.files import write_text
from stages.lib.base.params import Params, load_params
from stages.lib.base.process import cpus
from stages.lib.source.download import shown
from stages.lib.source.folders import walk
from stages.lib.source.image_sets import (
    Checksum,
    ImageFile,
    Layout,
    find_images,
    layout_of,
    name_of,
    opened,
    read_bytes,
)
from stages.lib.source.pictures import decode

UNPACKED = Path("data/.unpacked-images.tmp")
MOST_NAMED = 10  # files of one kind; of more the number is said
COLOUR = {"RGB", "RGBA", "P", "CMYK", "YCbCr"}


@dataclass(frozen=True)
class Look:
    """What was seen of one image."""

    file: ImageFile
    digest: str = ""
    size: tuple[int, int] = (0, 0)  # width, height, upright
    mode: str = ""
    fault: str = ""


def main() -> None:
    """Look, say what there is, write params.yaml."""
    source = parse_source()
    params = load_params()
    with opened(source, UNPACKED) as folder:
        files = find_images(folder)
        say_folders(folder, source)
        with ThreadPoolExecutor(cpus()) as pool:
            looks = list(pool.map(look_at, files))
    layout = layout_of([file.name for file in files])
    refuse_broken(looks)
    say_sizes(looks)
    warn_of_duplicates(looks, layout)
    write_params(source, checksum_of(looks))
    say_what_follows(params, layout, looks)


def look_at(file: ImageFile) -> Look:
    """Decode an image, and note what there is to say of it."""
    try:
        content = read_bytes(file.path)
        picture = decode(io.BytesIO(content), file.name)
    except UserError as error:
        return Look(file, fault=str(error))
    return Look(file, sha256(content).hexdigest(), picture.size, picture.mode)


def say_folders(folder: Path, source: str) -> None:
    """Print how many folders and images lie in each folder, as the lecture's `walk_through_dir` does."""
    for path, folders, images in sorted(walk(folder)):
        inside = path.relative_to(folder).as_posix()
        where = shown(source) if inside == "." else f"{shown(source)}: {inside}"
        print(f"There are {len(folders)} directories and {len(images)} images in '{printable(where)}'.")


def refuse_broken(looks: list[Look]) -> None:
    """Name the images that cannot be read.

    Raises:
        UserError: there are some.
    """
    broken = [look for look in looks if look.fault]
    for look in broken[1 : MOST_NAMED + 1]:
        print(f"images: {printable(look.fault)}", file=sys.stderr)
    if broken:
        count = f"; {len(broken)} images cannot be read" if len(broken) > 1 else ""
        raise UserError(f"{broken[0].fault}{count}; take them out, or mend them; nothing was written")


def say_sizes(looks: list[Look]) -> None:
    """Print the sizes and kinds of the images."""
    widths, heights = zip(*(look.size for look in looks), strict=True)
    modes = ", ".join(f"{count:,} {mode}" for mode, count in Counter(look.mode for look in looks).most_common())
    print(f"\n{len(looks):,} images, {span(widths)} pixels wide and {span(heights)} high; by kind: {modes}")


def span(values: tuple[int, ...]) -> str:
    """Format the least and the largest of some numbers."""
    least, largest = min(values), max(values)
    return f"{least}" if least == largest else f"{least} to {largest}"


def warn_of_duplicates(looks: list[Look], layout: Layout) -> None:
    """Say on stderr which images are there twice, byte for byte, and which are in both sets."""
    first: dict[str, Look] = {}
    found: dict[str, list[str]] = {"is of another class than": [], "is in both sets, as": [], "is the same as": []}
    for look in looks:
        other = first.setdefault(look.digest, look)
        if other is not look:
            (part, label), (other_part, other_label) = (layout.part_and_label(each.file.name) for each in (look, other))
            worst = 0 if label != other_label else 1 if part != other_part else 2
            what = list(found)[worst]
            found[what].append(f"{look.file.name} {what} {other.file.name}, and has its content")
    warnings = [warning for some in found.values() for warning in some]
    for warning in warnings[:MOST_NAMED]:
        print(f"images: warning: {warning}", file=sys.stderr)
    if len(warnings) > MOST_NAMED:
        print(f"images: warning: and {len(warnings) - MOST_NAMED:,} more images that are there twice", file=sys.stderr)


def checksum_of(looks: list[Look]) -> str:
    """Return the checksum of the set."""
    total = Checksum()
    for look in looks:
        total.add_digest(look.file.name, look.digest)
    return total.hexdigest()


def write_params(source: str, checksum: str) -> None:
    """Write source, name, path and checksum into params.yaml; keep all else, comments too."""
    tree: Any = load_yaml(PARAMS)
    fetch = tree["fetch"]
    fetch["source"] = "images"
    fetch.setdefault("images", {})
    fetch["images"].update({"name": name_of(source), "path": source, "sha256": checksum})
    write_text(PARAMS, dump_yaml(tree))


def say_what_follows(params: Params, layout: Layout, looks: list[Look]) -> None:
    """Print what the pipeline will do with the images, and what to consider."""
    prepare, part = params.prepare, params.fetch.images.test
    whole = f"pads them to {prepare.image_size} x {prepare.image_size} pixels"
    fitted = whole if prepare.fit == "pad" else whole.replace("pads", "crops")
    colours = "colour" if prepare.channels == 3 else "grey"
    chosen = "takes train and test as they are" if layout.is_split else f"tests on {part:.0%} of each class, held out"
    print(f"{len(layout.class_names)} classes: {', '.join(map(printable, layout.class_names[:20]))}")
    print("\nparams.yaml says now: fetch.source: images, and which. `dvc repro`")
    print("- copies them into data/raw, and DVC keeps them: others get them by `dvc pull`")
    print(f"- {fitted} in {colours} (prepare.image_size, prepare.channels, prepare.fit)")
    print(f"- {chosen}")
    print("- trains, evaluates and compares all models on them")
    if prepare.channels == 1 and any(look.mode in COLOUR for look in looks):
        print("They have colours: `prepare.channels: 3` keeps them. Small things show with `prepare.image_size: 64`.")
    print("Back to FashionMNIST: `fetch.source: fashion-mnist`")


def parse_source() -> str:
    """Return the path or address from the command line."""
    parser = ArgumentParser(prog="python -m stages.commands.use_images", description="Use images of your own.")
    parser.add_argument("path", metavar="PATH", help="a folder, a zip file, or the http(s) address of one")
    source: str = parser.parse_args().path
    return source


if __name__ == "__main__":
    exit_cleanly("images", main)
