"""FashionMNIST as published: its files, classes and image size. Constants only: importing it costs a stage nothing."""

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
IMAGE_SHAPE = (1, 28, 28)  # channels, height, width


@dataclass(frozen=True)
class RawFile:
    """Hold name, size in bytes and checksums of one published, compressed file."""

    name: str
    size: int
    sha256: str
    md5: str


TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"

# The md5 checksums are those in the README of zalandoresearch/fashion-mnist and in torchvision.
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
