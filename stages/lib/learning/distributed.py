"""Training on several processes: starting them, joining them, adding up what each has.

The training is the same as on one process, up to rounding, for models without batch statistics: `nn.BatchNorm2d` sees
its own slice of each batch.

`torchrun`, or `start_processes` here, tells each process its rank in environment variables. Without them a process
trains alone.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch import distributed as dist
from torch.multiprocessing.spawn import ProcessExitedException, spawn

from stages.lib.base.errors import UserError, one_line

RENDEZVOUS = "TRAIN_RENDEZVOUS"  # environment variable: how processes find each other; torchrun has its own
GRACE_SECONDS = 10  # for processes to end after one of them has failed


@dataclass(frozen=True)
class World:
    """The processes that train together, and the rank of this one among them."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Tell whether this process writes the outputs and prints: only one does."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over all processes, in each of them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def of_first(self, values: Tensor) -> Tensor:
        """Return the `values` that the first process has, on the CPU, in each of them."""
        if self.size > 1:
            values = values.cuda() if dist.get_backend() == "nccl" else values.clone()
            dist.broadcast(values, 0)
        return values.cpu()


SINGLE_PROCESS = World()


@contextmanager
def join_world(device: torch.device) -> Iterator[World]:
    """Join the processes that were started with this one; leave them at the end.

    Raises:
        UserError: there is no joining them.
    """
    if not is_distributed():
        yield SINGLE_PROCESS
        return
    rank, size = os.environ["RANK"], os.environ["WORLD_SIZE"]
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        world = World(range(int(size)).index(int(rank)), int(size))
        dist.init_process_group(backend, os.environ.get(RENDEZVOUS, "env://"), rank=world.rank, world_size=world.size)
    except (RuntimeError, ValueError) as error:
        first, *_ = str(error).split("\n")
        why = f"RANK is {rank} and WORLD_SIZE is {size}, but the processes do not meet ({first})"
        raise UserError(f"{why}; to train in one process, unset both") from None
    try:
        yield world
    finally:
        dist.destroy_process_group()


def is_distributed() -> bool:
    """Tell whether this process was started to train with others: a cluster may set some of the variables for all."""
    meeting = [RENDEZVOUS] if RENDEZVOUS in os.environ else ["MASTER_ADDR", "MASTER_PORT"]
    return all(os.environ.get(variable) for variable in ["RANK", "WORLD_SIZE", *meeting])


def start_processes(count: int, work: Callable[[], None]) -> None:
    """Run `work` in `count` processes of this machine, which call `join_world`; return when all have ended.

    As `torchrun` does, but an error is raised here, once, as if the work had been done here.

    Raises:
        UserError: the error of the first process that failed, or that it was killed. The others are ended.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        # Until a process has come to our code, Ctrl-C would be a traceback: it waits until then. Python's tracker of
        # resources goes first, because its start would lift the mask.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        started = spawn(_take_part, (count, folder, work), nprocs=count, join=False)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
            while not started.join(grace_period=GRACE_SECONDS):
                pass
        except ProcessExitedException as ended:
            number = ended.error_index
            error_file = folder / f"error-{number}"
            if error_file.exists():
                raise UserError(error_file.read_text(encoding="utf-8")) from None
            how = ended.signal_name or f"exit status {ended.exit_code}"
            raise UserError(f"process {number} of {count} ended by {how}; was it out of memory? Run it again") from None
        finally:
            for process in started.processes:
                process.join(GRACE_SECONDS)
                process.kill()


def _take_part(rank: int, count: int, folder: Path, work: Callable[[], None]) -> None:
    """Run `work` as process `rank` of `count`; write an error that a user can cause into `folder`."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))
    os.environ[RENDEZVOUS] = f"file://{folder}/rendezvous"
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        work()
        sys.stdout.flush()
    except (UserError, OSError) as error:
        (folder / f"error-{rank}").write_text(one_line(error), encoding="utf-8")
        sys.exit(1)
