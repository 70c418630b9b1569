"""How a step changes the weights: the optimizer, and its learning rate from the first step to the last.

torch.optim's classes import torch's compiler, which takes 1.0 s, as long as two epochs of a linear model. They are
imported where a model's block asks for more than plain SGD with a constant learning rate.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from stages.lib.base.params import ModelParams

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler


class Optimizer(Protocol):
    """Updates weights by their gradients, with a learning rate for each step of the training."""

    def start_step(self, number: int) -> None:
        """Take the learning rate of step `number`, from 0. Not part of a captured step."""

    def update(self) -> None:
        """Update the weights, and forget the gradients."""

    def state(self) -> dict[str, Tensor]:
        """Return what it remembers of earlier steps, each tensor under a name of its own."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Remember what another optimizer for the same model had in its `state`."""


def make_optimizer(parameters: Sequence[nn.Parameter], params: ModelParams, steps: int) -> Optimizer:
    """Return the optimizer that a model's block asks for, for a training of so many steps."""
    asks_for_more = params.optimizer != "sgd" or params.momentum or params.weight_decay or params.schedule != "constant"
    return TorchOptimizer(parameters, params, steps) if asks_for_more else PlainSGD(parameters, params.lr)


class PlainSGD:
    """The lecture's: plain SGD with a constant learning rate, by torch's fused kernel.

    The function below `torch.optim.SGD`, and the same bits, without the class. A step of a linear model takes 186
    microseconds so, and 236 with it.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], lr: float) -> None:
        self.parameters = parameters
        self.lr = lr

    def start_step(self, number: int) -> None:
        """Leave the learning rate as it is."""

    @torch.no_grad()
    def update(self) -> None:
        """Update the weights, and forget the gradients."""
        trained = [weights for weights in self.parameters if weights.grad is not None]
        gradients = [weights.grad for weights in trained if weights.grad is not None]
        momenta: list[Tensor | None] = [None] * len(trained)
        sgd(
            list[Tensor](trained),
            gradients,
            momenta,
            fused=True,
            weight_decay=0,
            momentum=0,
            lr=self.lr,
            dampening=0,
            nesterov=False,
            maximize=False,
        )
        for weights in trained:
            weights.grad = None

    def state(self) -> dict[str, Tensor]:
        """Return nothing: each step stands alone."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Do nothing."""


class TorchOptimizer:
    """One of torch.optim's, with one of its schedules."""

    def __init__(self, parameters: Sequence[nn.Parameter], params: ModelParams, steps: int) -> None:
        from torch.optim import SGD, Adam, AdamW

        self.parameters = parameters
        self.rates = learning_rates(params, steps)
        on_gpu = parameters[0].device.type == "cuda"
        # A captured step reads its learning rate from the device: a number would be captured with it.
        self.lr = torch.tensor(params.lr, device=parameters[0].device) if on_gpu else params.lr
        decay = params.weight_decay
        self.optimizer: torch.optim.Optimizer
        if params.optimizer == "sgd":
            momentum, nesterov = params.momentum, params.nesterov
            self.optimizer = SGD(parameters, self.lr, momentum, 0, decay, nesterov, fused=True)
        else:
            kind = Adam if params.optimizer == "adam" else AdamW
            self.optimizer = kind(parameters, self.lr, weight_decay=decay, fused=True, capturable=on_gpu)

    def start_step(self, number: int) -> None:
        """Take the learning rate of step `number`, from 0."""
        if isinstance(self.lr, Tensor):
            self.lr.fill_(self.rates[number])
        else:
            self.optimizer.param_groups[0]["lr"] = self.rates[number]

    def update(self) -> None:
        """Update the weights, and forget the gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Return momenta and the like: those of the first weights under `0.momentum_buffer`."""
        remembered = [self.optimizer.state.get(weights, {}) for weights in self.parameters]
        return {
            f"{number}.{key}": values
            for number, each in enumerate(remembered)
            for key, values in each.items()
            if isinstance(values, Tensor)
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Remember `state`, laid out in memory as the weights are: fused kernels go through both in step."""
        for name, values in state.items():
            number, key = name.split(".", 1)
            weights = self.parameters[int(number)]
            like = weights if values.shape == weights.shape else values
            self.optimizer.state[weights][key] = torch.empty_like(like, dtype=values.dtype).copy_(values)


def learning_rates(params: ModelParams, steps: int) -> list[float]:
    """Return the learning rate of each step, by torch's schedulers: constant, cosine (down to 0), or onecycle.

    Onecycle climbs from lr / 25 to `lr` over 30 % of the steps, and goes down to nearly 0 over the others.
    """
    if params.schedule == "constant":
        return [params.lr] * steps
    from torch.optim import SGD
    from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

    pretended = SGD([nn.Parameter(torch.zeros(1))], params.lr)
    scheduler: LRScheduler
    if params.schedule == "cosine":
        scheduler = CosineAnnealingLR(pretended, T_max=steps)
    else:
        scheduler = OneCycleLR(pretended, params.lr, total_steps=steps, cycle_momentum=False)
    rates = []
    for _ in range(steps):
        rates.append(float(pretended.param_groups[0]["lr"]))
        pretended.step()
        scheduler.step()
    return rates


@contextmanager
def forgetting_steps(optimizer: Optimizer) -> Iterator[None]:
    """Have `optimizer` remember after the block what it did before, in the same tensors."""
    before = {name: values.clone() for name, values in optimizer.state().items()}
    yield
    for name, values in optimizer.state().items():
        values.copy_(before[name]) if name in before else values.zero_()
