"""Memory: a training step uses again what the one before it gave back, and too little of it is said in a line."""

import subprocess
import sys

import pytest
import torch

from stages.lib.base.errors import UserError
from stages.lib.learning.memory import enough_memory

STEPS = """
import resource
import torch
from stages.lib.learning.models import build_model
from stages.lib.data.datasets import Batch
from stages.lib.learning.memory import keep_freed_memory
from stages.lib.learning.training import make_step

torch.set_num_threads(1)
keep_freed_memory()
step = make_step(build_model("tiny_vgg", 10, 10).to(memory_format=torch.channels_last), lr=0.1)
batch = Batch(torch.rand(32, 1, 28, 28), torch.arange(32) % 10, 32)
for number in range(40):
    if number == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(batch)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc that gives memory back")
def test_a_step_of_the_convolutional_network_asks_the_system_for_no_new_memory() -> None:
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100, "page faults per step; some 500 without"


def test_more_than_the_machine_has_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"^memory is short; take less$"), enough_memory("take less"):
        torch.empty(10**15)


def test_more_than_a_gpu_has_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"^memory is short; take less$"), enough_memory("take less"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def test_another_error_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), enough_memory("take less"):
        torch.ones(2, 3) @ torch.ones(2, 3)
