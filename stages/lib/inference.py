"""Running a trained model over a split."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from stages.lib.datasets import Batch


@torch.inference_mode()
def predict_logits(model: nn.Module, loader: DataLoader[Batch]) -> Tensor:
    """Float32 logits `[N, K]` for every image of `loader`, in its order, on the model's device."""
    model.eval()
    return torch.cat([model(batch.images_B1HW) for batch in loader])
