"""The same training on several processes: who we are among them, and what they share.

`torchrun` starts the processes and tells each its place in environment variables. Without them a process is alone.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class World:
    """The processes that train together, and our place among them."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes the outputs and prints: one does."""
        return self.rank == 0

    def share_of(self, index_B: Tensor) -> Tensor:
        """Our slice of a batch; all slices together are the batch. Empty if there are more processes than images."""
        return index_B.tensor_split(self.size)[self.rank] if self.size > 1 else index_B

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes, in each of them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values


ALONE = World()


@contextmanager
def join_world(device: torch.device) -> Iterator[World]:
    """Meet the processes that torchrun started beside this one; part from them at the end."""
    if "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
