"""Memory: a training step uses again what the one before it gave back, and too little of it is one line."""

import subprocess
import sys

import pytest
import torch

from stages.lib.learning.memory import enough_memory
from tests.helpers import PROJECT, refusal

STEPS = """
import resource
import torch
from stages.lib.learning.models import build_model
from stages.lib.data.datasets import Batch
from stages.lib.learning.memory import keep_freed_memory
from stages.lib.learning.optimizers import PlainSGD
from stages.lib.learning.steps import make_step

torch.set_num_threads(1)
keep_freed_memory()
model = build_model("tiny_vgg", (1, 28, 28), 10, 10).to(memory_format=torch.channels_last)
step = make_step(model, PlainSGD(list(model.parameters()), 0.1))
batch = Batch(torch.rand(32, 1, 28, 28), torch.arange(32) % 10)
for number in range(40):
    if number == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(batch, 32)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc that gives memory back")
@pytest.mark.slow
def test_page_faults_of_a_step() -> None:
    done = subprocess.run([sys.executable, "-c", STEPS], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100, "some 500 without"


def run_out_of(memory: str) -> None:
    with enough_memory("take less"):
        if memory == "CPU":
            torch.empty(10**15)
        elif memory == "Python":
            bytearray(10**18)
        elif memory == "import":
            raise ImportError("libjpeg.so: failed to map segment from shared object")
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.parametrize("memory", ["CPU", "Python", "import", "GPU"])
def test_out_of_memory(memory: str) -> None:
    line = refusal(run_out_of, memory)
    assert line.startswith("out of memory; take less")
    assert "ulimit" in line


def test_another_error_passes() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), enough_memory("take less"):
        torch.ones(2, 3) @ torch.ones(2, 3)
