"""The oldest libraries that will do."""

import pytest

from stages.lib import versions
from stages.lib.base.errors import UserError


def test_the_installed_libraries_will_do_and_are_named() -> None:
    import torch
    import torchvision

    found = versions.check_versions("torch", "torchvision")
    # The build, `+cpu` say, may or may not stand in the package's metadata.
    assert found["torch"].split("+")[0] == str(torch.__version__).split("+")[0]
    assert found["torchvision"].split("+")[0] == torchvision.__version__.split("+")[0]


def test_only_the_libraries_asked_for_are_looked_up() -> None:
    assert list(versions.check_versions("torch")) == ["torch"]


@pytest.mark.parametrize("found", ["1.10.0", "2.9.1", "2.10.9+cu128", "2.11.0rc1"])
def test_an_older_library_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    monkeypatch.setattr(versions, "version", lambda library: found)
    with pytest.raises(UserError) as caught:
        versions.check_versions("torch")
    assert str(caught.value) == f"torch {found} is too old; 2.11 or newer is needed: run `make setup`"


@pytest.mark.parametrize("found", ["2.11", "2.11.0+cpu", "2.14.1", "10.0"])
def test_the_oldest_and_newer_ones_will_do(monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    monkeypatch.setattr(versions, "version", lambda library: found)
    assert versions.check_versions("torch") == {"torch": found}
