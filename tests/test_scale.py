"""Data beyond memory: ten times FashionMNIST takes ten times the work at most, and hardly more memory.

Work is CPU time, which a busy machine changes little. Memory is what cannot be given back: pages of memory-mapped files
count for nothing, the system drops them at will.
`pytest -s tests/test_scale.py` prints the table.
"""

import re
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.lib.source.synthetic import write_synthetic
from tests.helpers import PROJECT, SetParams

SIZES = (10_000, 100_000)
MOST_GROWTH_MIB = 12  # for 90,000 images more; the images alone are 67 MiB


@dataclass
class Run:
    cpu_seconds: float
    peak_mib: float


def measure(*command: str) -> Run:
    """Run `python -m command` and watch its private memory."""
    start, peak_kib = cpu_seconds(), 0
    environment = {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-m", *command], env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"RssAnon:\s+(\d+)", status)
            peak_kib = max(peak_kib, int(found[1]) if found else 0)
            time.sleep(0.01)
    assert process.returncode == 0
    return Run(cpu_seconds() - start, peak_kib / 1024)


def cpu_seconds() -> float:
    """Return the CPU time of all processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process from /proc")
def test_ten_times_the_images(workspace: Path, set_params: SetParams) -> None:
    set_params({"fetch.source": "synthetic", "model_0.epochs": 1})
    runs: dict[str, list[Run]] = {"prepare": [], "train": []}
    for images in SIZES:
        write_synthetic(Path("data/raw"), seed=42, train=images, test=1000)
        runs["prepare"].append(measure("stages.prepare"))
        runs["train"].append(measure("stages.train", "model_0"))

    print("\n\n| stage | images | CPU seconds | private memory MiB |\n|---|---|---|---|")
    for stage, (small, large) in runs.items():
        for images, run in zip(SIZES, (small, large), strict=True):
            print(f"| {stage} | {images:,} | {run.cpu_seconds:.1f} | {run.peak_mib:.0f} |")
    for small, large in runs.values():
        assert large.peak_mib - small.peak_mib < MOST_GROWTH_MIB
        assert large.cpu_seconds <= 10 * small.cpu_seconds
