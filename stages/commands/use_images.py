"""Use images of your own: `python -m stages.commands.use_images PATH`.

PATH is a folder or a zip with a folder for each class, or with train and test and the classes in both; a zip may be an
http(s):// address. Looks at every image, says what there is and what the pipeline will do with it, and writes source,
name, path and checksum into params.yaml. With a broken image nothing is written. Takes some milliseconds per image.

Image size, channels and the recipes of the models stay as they are in params.yaml: they are somebody's choice, and so
FashionMNIST is back by one line. What suits the images better is printed, as a command to copy.
"""

import io
import math
import statistics
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
from stages.lib.base.params import ModelParams, Params, PrepareParams, load_params
from stages.lib.base.process import cpus
from stages.lib.source.download import scheme_of, shown
from stages.lib.source.folders import IMAGE_SUFFIXES, walk
from stages.lib.source.idx_sets import IMAGE_SHAPE
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
LARGEST = 64  # pixels, of the image size that is proposed: half a minute of training for some thousand images
# A step of plain SGD grows with lr and the number of values of an image: 0.1 * 28 * 28 in the lecture. On bright images
# `linear` learns at 1.6 times that, and diverges at four times that.
STEEPEST = 2 * 0.1 * math.prod(IMAGE_SHAPE)
ADAMS_LR, EPOCHS = 0.003, 6  # learn at all sizes that were tried: docs/images.md


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
        say_folders(folder, source)
        say_passed_over(folder)
        files = find_images(folder)
        with ThreadPoolExecutor(cpus()) as pool:
            looks = list(pool.map(look_at, files))
    layout = layout_of([file.name for file in files])
    refuse_broken(looks)
    say_sizes(looks)
    warn_of_duplicates(looks, layout)
    warn_of_folders_inside([file.name for file in files], layout)
    warn_of_case(layout.class_names)
    warn_of_letters(layout.class_names)
    warn_of_secrets(source)
    write_params(source, checksum_of(looks))
    say_what_follows(params, layout)
    propose(params, looks)


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


def say_passed_over(folder: Path) -> None:
    """Print how many files are no images by their suffix, such as photos in a format that is not read."""
    files = [file for path, _, _ in walk(folder) for file in path.iterdir() if file.is_file() and file.name[0] != "."]
    kinds = Counter(file.suffix.lower() or file.name for file in files)
    other = [f"{count:,} {printable(kind)}" for kind, count in kinds.most_common() if kind not in IMAGE_SUFFIXES]
    if other:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        print(f"\nPassed over, as no images by their names ({known}): {', '.join(other[:MOST_NAMED])}")


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


def warn_of_folders_inside(names: list[str], layout: Layout) -> None:
    """Say on stderr if classes hold folders of the same names: they may be parts of a set, and those the classes."""
    holders: dict[str, set[str]] = {}
    for name in names if not layout.is_split else ():
        outer, *inner, _ = name.split("/")
        for folder in inner:
            holders.setdefault(folder, set()).add(outer)
    if shared := [folder for folder, classes in sorted(holders.items()) if len(classes) > 1]:
        outer, inside = (", ".join(map(printable, some[:MOST_NAMED])) for some in (sorted(holders[shared[0]]), shared))
        print(
            f"images: warning: {outer} are taken for classes, but all of them have folders {inside}: if those are the "
            "classes, and these are parts of the set, rename the parts to train and test, or give the path of one",
            file=sys.stderr,
        )


def warn_of_case(class_names: tuple[str, ...]) -> None:
    """Say on stderr which classes differ in small and capital letters alone: they may be one."""
    first: dict[str, str] = {}
    for name in class_names:
        if (other := first.setdefault(name.casefold(), name)) is not name:
            what = (
                "are two classes, and differ in small and capital letters alone; if they are one, put it in one folder"
            )
            print(f"images: warning: {printable(other)} and {printable(name)} {what}", file=sys.stderr)


def warn_of_letters(class_names: tuple[str, ...]) -> None:
    """Say on stderr which classes the pictures cannot name.

    Their font comes with matplotlib, so that a picture has the same bytes on every machine. It lacks Chinese letters.
    """
    import matplotlib  # 1 s: where all is done that may be refused
    from matplotlib.ft2font import FT2Font

    font = FT2Font(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"))
    known = font.get_charmap()
    if boxed := [name for name in class_names if not all(ord(letter) in known for letter in name)]:
        more = f" and {len(boxed) - MOST_NAMED} more" if len(boxed) > MOST_NAMED else ""
        names = ", ".join(boxed[:MOST_NAMED])
        what = (
            "matplotlib's font lacks such letters. Text and tables will be right. For the pictures, rename the folders"
        )
        print(f"images: warning: pictures will show boxes in the names {names}{more}: {what}", file=sys.stderr)


def warn_of_secrets(source: str) -> None:
    """Say on stderr that an address with a password or a key goes into a file that is committed."""
    if scheme_of(source) and shown(source) != source:
        what = "all of it is in params.yaml now: if it holds a password or key, take that out of fetch.images.path"
        print(
            f"images: warning: {shown(source)} has more to it than is printed; {what} before you commit",
            file=sys.stderr,
        )


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


def say_what_follows(params: Params, layout: Layout) -> None:
    """Print what the pipeline will do with the images."""
    prepare, part = params.prepare, params.fetch.images.test
    verb = "pads" if prepare.fit == "pad" else "crops"
    chosen = "takes train and test as they are" if layout.is_split else f"tests on {part:.0%} of each class, held out"
    print(f"{len(layout.class_names)} classes: {', '.join(map(printable, layout.class_names[:20]))}")
    print("\nparams.yaml says now: fetch.source: images, and which. `dvc repro`")
    print("- copies them into data/raw, and DVC keeps them: others get them by `dvc pull`")
    print(f"- {verb} them to {shape_text(prepare.image_size, prepare.channels)} (prepare.image_size, .channels, .fit)")
    print(f"- {chosen}")
    print("- trains, evaluates and compares all models on them")


def shape_text(image_size: int, channels: int) -> str:
    """Say a shape in words."""
    return f"{image_size} x {image_size} pixels in {'colour' if channels == 3 else 'grey'}"


def propose(params: Params, looks: list[Look]) -> None:
    """Print the command that suits these images better than what params.yaml says, with the reasons."""
    image_size, channels = params.prepare.image_size, params.prepare.channels
    here, plain = shape_text(image_size, channels), {name: m for name, m in params.models.items() if is_plain(m)}
    if steep := [name for name, model in plain.items() if model.lr * channels * image_size**2 > STEEPEST]:
        what = "by plain SGD their lr is too large for so many values, and `dvc repro` would stop there"
        print(f"images: warning: {', '.join(steep)} may diverge at {here}: {what}", file=sys.stderr)
    lines = [better_shape(params.prepare, looks)]
    lines += [
        [f"++{name}.optimizer=adam", f"{name}.lr={ADAMS_LR}", f"{name}.epochs={max(model.epochs, EPOCHS)}"]
        for name, model in plain.items()
    ]
    if lines[0]:
        print(f"\nThey have more to show than {here}.")
    if plain:
        print("\nPlain SGD with the lecture's learning rate is for many small images: with few it learns little, with")
        print("large ones it diverges. Adam's steps do not grow with the number of pixels.")
    if any(lines):
        print("This, in place of `dvc repro`, writes into params.yaml what suits these images, and runs:\n")
        options = [" ".join(f"-S {change}" for change in line) for line in lines if line]
        print("  " + " \\\n    ".join(["dvc exp run", *options]))
    print("\nBack to FashionMNIST: `fetch.source: fashion-mnist`, and the models' parameters as they were, or all of")
    print("params.yaml by `git checkout params.yaml`; then `dvc repro`")


def better_shape(prepare: PrepareParams, looks: list[Look]) -> list[str]:
    """Return the changes of params.yaml by which images show more, where it has FashionMNIST's shape."""
    if (prepare.channels, prepare.image_size, prepare.image_size) != IMAGE_SHAPE:
        return []
    size = min(LARGEST, int(statistics.median(max(look.size) for look in looks)))
    in_colour = any(look.mode in COLOUR for look in looks)
    return [f"prepare.image_size={size}"] * (size > prepare.image_size) + ["prepare.channels=3"] * in_colour


def is_plain(model: ModelParams) -> bool:
    """Tell whether a model is trained by plain SGD, as the lecture does."""
    return model.optimizer == "sgd" and not model.momentum and model.schedule == "constant"


def parse_source() -> str:
    """Return the path or address from the command line."""
    parser = ArgumentParser(prog="python -m stages.commands.use_images", description="Use images of your own.")
    parser.add_argument("path", metavar="PATH", help="a folder, a zip file, or the http(s) address of one")
    source: str = parser.parse_args().path
    return source


if __name__ == "__main__":
    exit_cleanly("images", main)
