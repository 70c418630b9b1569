"""The lecture's training loop, and after each epoch an evaluation of images held out.

Random numbers come from torch's global generator in the lecture's order: it is seeded before the model is built and
again before the training; each pass over a loader then draws from it.

Shapes: N images, K classes, B images of one batch, C channels, H x W pixels; M batches.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from stages.lib.base.errors import UserError
from stages.lib.base.params import ModelParams
from stages.lib.data.datasets import Batch, Split, batch_sizes, load_split, make_loader
from stages.lib.learning.augmentation import Augmentation
from stages.lib.learning.devices import place, set_seeds
from stages.lib.learning.distributed import SINGLE_PROCESS, World
from stages.lib.learning.evaluation import mean_over_batches, metrics_of, predict_logits
from stages.lib.learning.models import build_model, find_fault, kept_as_it_is
from stages.lib.learning.optimizers import make_optimizer
from stages.lib.learning.steps import make_step

if TYPE_CHECKING:
    from torch.optim.swa_utils import AveragedModel


@dataclass(frozen=True)
class Epoch:
    """Metrics of one epoch: means over batches; losses in nats, accuracies in percent."""

    epoch: int  # from 1
    train_loss: float
    train_acc: float
    test_loss: float  # of the images held out: validation images where there are any, else the test images
    test_acc: float
    correct: int  # of the images held out

    def line(self, held_out: str) -> str:
        """Return the line to print; `held_out` is what the images held out are: test or validation."""
        name = held_out.capitalize()
        return (
            f"Epoch: {self.epoch} | Train loss: {self.train_loss:.5f} | Train accuracy: {self.train_acc:.2f}% | "
            f"{name} loss: {self.test_loss:.5f} | {name} accuracy: {self.test_acc:.2f}%"
        )


def load_images(name: str, params: ModelParams, device: torch.device) -> tuple[Split, Split, str]:
    """Load the images to train on and those that the training watches, and say which these are: validation or test.

    Without a validation set training watches the test images, as the lecture does.

    Raises:
        UserError: the recipe of the model `name` chooses by validation images, and there are none.
    """
    train, validation = (load_split(f"data/prepared/{each}.safetensors").to(device) for each in ("train", "validation"))
    if len(validation):
        return train, validation, "validation"
    if params.keep == "best" or params.patience:
        why = "choose by validation images, and there are none; set prepare.validation, or leave both out"
        raise UserError(f"params.yaml: {name}.keep and {name}.patience {why}")
    return train, load_split("data/prepared/test.safetensors").to(device), "test"


def new_training(
    params: ModelParams,
    seed: int,
    train: Split,
    held_out: Split,
    precision: str = "float32",
    world: World = SINGLE_PROCESS,
) -> "Training":
    """Seed, build the model on the device that holds the images, check it, seed again: a training that can start.

    Raises:
        UserError: the model cannot be built or trained.
    """
    set_seeds(seed)
    classes = len(train.class_names)
    model = build_model(params.arch, train.image_shape, params.hidden_units, classes, params.settings)
    place(model, train.labels_N.device, params.memory_format)
    check_training(model, params, train, world)
    set_seeds(seed)
    return Training(model, params, train, held_out, precision, world)


def check_training(model: nn.Module, params: ModelParams, train: Split, world: World = SINGLE_PROCESS) -> None:
    """Run the model once as training does, on black images, as many as the smallest batch has. It stays as it is.

    Draws random numbers where the model does: to be called before the seed is set.

    Raises:
        UserError: the model cannot be trained, or not on a batch of one image.
    """
    smallest = max(1, batch_sizes(len(train), params.batch_size)[-1] // world.size)
    images_BCHW = torch.zeros(smallest, *train.image_shape, device=next(model.parameters()).device)
    file = f"stages/architectures/{params.arch}.py"
    model.train()
    try:
        with kept_as_it_is(model):
            logits_BK = model(images_BCHW)
            unused = unused_weights(model, logits_BK) if world.size > 1 else []
    except ValueError as error:  # of batch normalization
        if smallest > 1:
            raise
        why = f"the last batch has one image, too few to train {file} ({error}); choose another batch_size"
        raise UserError(why) from None
    if problem := find_fault(logits_BK, smallest, len(train.class_names)):
        raise UserError(f"{file}: in training, {problem}")
    if not logits_BK.requires_grad:
        raise UserError(f"{file}: no weight can be trained; all are frozen, or the logits do not depend on them")
    if unused:  # DistributedDataParallel waits for the gradients of all
        raise UserError(f"{file}: the logits do not depend on {unused[0]}; take it out, or set train.processes to 1")


def unused_weights(model: nn.Module, logits_BK: Tensor) -> list[str]:
    """Return the names of weights that could be trained, but that the logits do not depend on."""
    trained = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
    if not isinstance(logits_BK, Tensor) or not logits_BK.requires_grad:
        return []
    gradients = torch.autograd.grad(logits_BK.sum(), list(trained.values()), allow_unused=True)
    return [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None]


class Training:
    """A training of `model` in place, on the device that holds it and the splits.

    It can be left after any epoch: what it has come to is in its attributes.

    Args:
        model: maps float32 images `[N, C, H, W]` to logits `[N, K]`.
        params: the model's block of params.yaml.
        train: images to train on.
        held_out: images to evaluate after each epoch.
        precision: float32, or bfloat16 for the arithmetic of the training step; weights stay float32.
        world: the processes that train together; all of them must do this with the same arguments and seed.
    """

    def __init__(
        self,
        model: nn.Module,
        params: ModelParams,
        train: Split,
        held_out: Split,
        precision: str = "float32",
        world: World = SINGLE_PROCESS,
    ) -> None:
        self.model = model
        self.params = params
        self.held_out = held_out
        self.world = world
        self.train_loader = make_loader(train, params.batch_size, shuffle=True, rank=world.rank, world_size=world.size)
        self.held_out_loader = make_loader(held_out, params.batch_size)
        self.sizes = batch_sizes(len(train), params.batch_size)
        self.augment = Augmentation(params.augment, torch.initial_seed(), world)
        self.optimizer = make_optimizer(list(model.parameters()), params, params.epochs * len(self.sizes))
        self.step = make_step(model, self.optimizer, precision, world, params.label_smoothing)
        self.average = average_of(model, params.ema)
        self.epochs: list[Epoch] = []
        self.best_weights: dict[str, Tensor] = {}

    def run(self) -> Iterator[Epoch]:
        """Train to the end, and yield the metrics after each epoch. The weights to keep are then in the model.

        Raises:
            UserError: a loss is not finite.
        """
        while not self.is_over():
            losses_M, accuracies_M = self._pass()
            weights = self.average.module if self.average else self.model
            metrics = metrics_of(
                predict_logits(weights, self.held_out_loader), self.held_out.labels_N, self.params.batch_size
            )
            # All processes go by those of the first: statistics of batch normalization are each one's own.
            held_out = torch.tensor([metrics.model_loss, metrics.model_acc, metrics.correct], dtype=torch.float64)
            test_loss, test_acc, correct = self.world.of_first(held_out).tolist()
            epoch = Epoch(
                len(self.epochs) + 1,
                train_loss=mean_over_batches(losses_M),
                train_acc=mean_over_batches(accuracies_M),
                test_loss=test_loss,
                test_acc=test_acc,
                correct=int(correct),
            )
            check_finite(losses_M, epoch, self.params.lr)
            self.epochs.append(epoch)
            if self.params.keep == "best" and self.best() is epoch:
                self.best_weights = {key: values.clone() for key, values in weights.state_dict().items()}
            yield epoch
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)
        elif self.average:
            self.model.load_state_dict(self.average.module.state_dict())

    def is_over(self) -> bool:
        """Tell whether all epochs are over, or as many without a better one as the recipe has patience for."""
        patience = self.params.patience or self.params.epochs
        waited = len(self.epochs) - self.best().epoch if self.epochs else 0
        return len(self.epochs) >= self.params.epochs or waited >= patience

    def best(self) -> "Epoch":
        """Return the epoch with the highest accuracy on the images held out; of equal ones that with the least loss."""
        return max(self.epochs, key=lambda epoch: (epoch.correct, -epoch.test_loss))

    def kept(self) -> "Epoch":
        """Return the epoch whose weights the model has in the end."""
        return self.best() if self.params.keep == "best" else self.epochs[-1]

    def _pass(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Pass over the training images once, with one step for each batch.

        Returns:
            The loss (float32) and the accuracy (float64, percent) of each batch, before its step.
        """
        # Models draw for slices of their own: all processes take the same order of the images again.
        torch.set_rng_state(self.world.of_first(torch.get_rng_state()))
        self.model.train()
        # Results stay on the device until the epoch is over: nothing in the loop waits for them.
        device = next(self.model.parameters()).device
        losses_M = torch.empty(len(self.sizes), device=device)
        correct_M = torch.empty(len(self.sizes), dtype=torch.int64, device=device)
        first = len(self.epochs) * len(self.sizes)
        what, hidden = f"epoch {len(self.epochs) + 1}", _hide(self.world)
        with tqdm(total=sum(self.sizes), desc=what, unit=" images", leave=False, disable=hidden) as progress:
            for number, (batch, size) in enumerate(zip(self.train_loader, self.sizes, strict=True)):
                self.optimizer.start_step(first + number)
                varied = Batch(self.augment(batch.images_BCHW, size), batch.labels_B)
                losses_M[number], correct_M[number] = self.step(varied, size)
                if self.average:
                    self.average.update_parameters(self.model)
                progress.update(size)
        losses_M = self.world.sum(losses_M) / self.world.size
        return losses_M.cpu().numpy(), self.world.sum(correct_M).cpu().numpy() / np.array(self.sizes) * 100


def average_of(model: nn.Module, decay: float) -> "AveragedModel | None":
    """Return a model whose weights are to be an exponential moving average of those of `model`; None without a decay.

    Source: torch.optim.swa_utils. Statistics of batch normalization are those of `model`.
    """
    if not decay:
        return None
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))


def check_finite(losses_M: NDArray[np.float32], epoch: Epoch, lr: float) -> None:
    """Refuse losses that are infinite or not a number, of the training batches or after the last of them.

    Raises:
        UserError: names the first such batch, its epoch and the learning rate.
    """
    (broken,) = np.nonzero(~np.isfinite(losses_M))
    if len(broken):
        loss, where = losses_M[broken[0]], f"in epoch {epoch.epoch}, batch {broken[0] + 1} of {len(losses_M)}"
    elif not math.isfinite(epoch.test_loss):
        loss, where = epoch.test_loss, f"after the last batch of epoch {epoch.epoch}"
    else:
        return
    raise UserError(f"the loss is {loss} {where}, with lr = {lr:g}; training has diverged: try a smaller lr")


def is_chance(correct: int, labels_N: Tensor) -> bool:
    """Tell whether `correct` of `labels_N` is no better than always predicting the commonest class.

    Better means by more than three standard errors of that proportion. Of few images even all would be no more than
    that: there, half of the way to all is enough.
    """
    images = len(labels_N)
    proportion = labels_N.bincount().max().item() / images
    lead = min(3 * math.sqrt(proportion * (1 - proportion) / images), (1 - proportion) / 2)
    return correct / images <= proportion + lead


def _hide(world: World) -> bool | None:
    return None if world.writes else True  # None: shown on a terminal only
