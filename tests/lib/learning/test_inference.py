"""Predictions for a whole split."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from stages.lib.data.datasets import Split, make_loader
from stages.lib.learning.evaluation import predict_logits


class Brightness(nn.Module):
    """Logits that tell the mean of each image, and how many images came at once."""

    def forward(self, images_N1HW: Tensor) -> Tensor:
        means_N = images_N1HW.mean(dim=(1, 2, 3))
        return torch.stack([means_N, torch.full_like(means_N, len(means_N))], dim=1)


@pytest.mark.parametrize("batch_size", [1, 32, 77, 500])
def test_every_image_is_predicted_once_and_in_order(make_split: Callable[..., Split], batch_size: int) -> None:
    split = make_split(77)
    logits_NK = predict_logits(Brightness(), make_loader(split, batch_size))
    torch.testing.assert_close(logits_NK[:, 0], split.images_N1HW.float().mean(dim=(1, 2, 3)) / 255)
    sizes = [len(batch) for batch in torch.arange(77).split(batch_size)]
    assert logits_NK[:, 1].tolist() == [float(size) for size in sizes for _ in range(size)]


def test_dropout_is_off_and_no_gradient_is_kept(make_split: Callable[..., Split]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10)).train()
    loader = make_loader(make_split(20), 8)
    first, second = predict_logits(model, loader), predict_logits(model, loader)
    assert torch.equal(first, second)
    assert not first.requires_grad


def test_the_weights_are_not_touched(make_split: Callable[..., Split]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict_logits(model, make_loader(make_split(20), 8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
