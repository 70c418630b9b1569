"""The data sets of the MNIST family as published: files, classes, mirrors. A new one is one entry more.

Constants only: importing this costs a stage nothing.
"""

from dataclasses import dataclass

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
IMAGE_SHAPE = (1, 28, 28)  # channels, height, width: of all of the family


@dataclass(frozen=True)
class RawFile:
    """Hold name, size in bytes and checksums of one published, compressed file."""

    name: str
    size: int
    sha256: str
    md5: str


@dataclass(frozen=True)
class IdxSet:
    """Hold what is known of one data set: four files under the names that all of the family share."""

    name: str  # for people
    files: tuple[RawFile, ...]
    class_names: tuple[str, ...]
    mirrors: tuple[str, ...]  # those of FashionMNIST stand in params.yaml


TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"

PACKED = "images.zip"  # in their place, where the images are one's own
NAMES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

# The md5 checksums are those in torchvision, and of FashionMNIST those in the README of zalandoresearch/fashion-mnist.
RAW_FILES = (
    RawFile(
        name=TRAIN_IMAGES,
        size=26421880,
        sha256="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    ),
    RawFile(
        name=TRAIN_LABELS,
        size=29515,
        sha256="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        md5="25c81989df183df01b3e8a0aad5dffbe",
    ),
    RawFile(
        name=TEST_IMAGES,
        size=4422102,
        sha256="346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        md5="bef4ecab320f06d8554ea6380940ec79",
    ),
    RawFile(
        name=TEST_LABELS,
        size=5148,
        sha256="67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        md5="bb300cfdad3c16e7a12a480ee83cd310",
    ),
)

FASHION_MNIST = IdxSet("FashionMNIST", RAW_FILES, CLASS_NAMES, mirrors=())
MNIST = IdxSet(
    name="MNIST",
    files=(
        RawFile(
            name=TRAIN_IMAGES,
            size=9912422,
            sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            md5="f68b3c2dcbeaaa9fbdd348bbdeb94873",
        ),
        RawFile(
            name=TRAIN_LABELS,
            size=28881,
            sha256="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            md5="d53e105ee54ea40749a09fcbcd1e9432",
        ),
        RawFile(
            name=TEST_IMAGES,
            size=1648877,
            sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            md5="9fb629c4189551a2d022fa330f9573f3",
        ),
        RawFile(
            name=TEST_LABELS,
            size=4542,
            sha256="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            md5="ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    class_names=(
        *("0 - zero", "1 - one", "2 - two", "3 - three", "4 - four"),
        *("5 - five", "6 - six", "7 - seven", "8 - eight", "9 - nine"),
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
)
IDX_SETS = {"fashion-mnist": FASHION_MNIST, "mnist": MNIST}  # by fetch.source
