"""The stages of the pipeline in dvc.yaml, one script each, and `predict`, a command that people type."""

import os
import signal
import sys
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path
from types import TracebackType

from stages.lib.base.errors import OUT_OF_MEMORY, exit_with, is_out_of_memory


def say_out_of_memory(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Say in one line that there is too little memory, even to load a library; show any other error as Python does."""
    if is_out_of_memory(error):
        exit_with(f"{Path(sys.argv[0]).stem}: {OUT_OF_MEMORY}", status=1)
    sys.__excepthook__(kind, error, traceback)


def remove_stale_bytecode(folder: Path) -> None:
    """Remove what Python compiled before a source file came or changed: it looks at size and second of the file alone.

    An edit within that second, or another file moved here by `cp -p`, would go unnoticed. Takes a millisecond.
    """
    for source in folder.rglob("*.py"):
        compiled = Path(cache_from_source(str(source)))
        with suppress(OSError):
            if compiled.stat().st_mtime_ns <= source.stat().st_ctime_ns:
                compiled.unlink()


remove_stale_bytecode(Path(__file__).parent)

# Python names the program "-m" until it has found the module to run: then we are not imported by another program.
# From here on a command imports libraries; `exit_cleanly` takes over when it starts to work.
if sys.argv[:1] == ["-m"]:
    sys.excepthook = say_out_of_memory
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a word and without a traceback

# How long a thread that waits for another spins before it sleeps. OpenMP's default is thirty times that: on a busy
# machine, where the other may not be running at all, two threads then take many times as long as one. Without any
# spinning they are slow on an idle machine. `make bench` shows it. Read when torch is imported: must stand before that.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# oneDNN would compute with fewer digits where the CPU can, and nobody could see it in the results.
for precision in ("DNNL_DEFAULT_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE"):
    os.environ.pop(precision, None)

# They can give fewer threads than params.yaml says: oneDNN would wait for the missing ones for ever, without a word.
for limit in ("OMP_DYNAMIC", "OMP_MAX_ACTIVE_LEVELS", "OMP_THREAD_LIMIT"):
    os.environ.pop(limit, None)
