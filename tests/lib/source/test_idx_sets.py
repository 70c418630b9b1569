"""What is known of the published data sets, against what torchvision knows of them."""

import pytest
from torchvision.datasets import MNIST, FashionMNIST

from stages.lib.source.idx_sets import IDX_SETS, NAMES


@pytest.mark.parametrize(("source", "theirs"), [("fashion-mnist", FashionMNIST), ("mnist", MNIST)])
def test_facts_are_torchvisions(source: str, theirs: type[MNIST]) -> None:
    ours = IDX_SETS[source]
    assert [(file.name, file.md5) for file in ours.files] == theirs.resources
    assert list(ours.class_names) == theirs.classes
    assert ours.name == theirs.__name__


@pytest.mark.parametrize("source", IDX_SETS)
def test_all_share_the_names_of_files(source: str) -> None:
    assert tuple(file.name for file in IDX_SETS[source].files) == NAMES


def test_sizes_of_mnist() -> None:
    assert [file.size for file in IDX_SETS["mnist"].files] == [9_912_422, 28_881, 1_648_877, 4_542]
