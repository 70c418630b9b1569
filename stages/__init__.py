"""The stages of the pipeline in dvc.yaml, one script each; `run`, `predict`, `report` and `verify` are commands."""

import os
import signal
import sys

# Ctrl-C while a command still imports ends it without a word and without a traceback; `exit_cleanly` sees to the rest.
# Python names the program "-m" until it has found the module to run: then we are not imported by another program.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# How long a thread that waits for another spins before it sleeps. OpenMP's default is thirty times that: on a busy
# machine, where the other may not be running at all, two threads then take many times as long as one. Without any
# spinning they are slow on an idle machine. `make bench` shows it. Read when torch is imported: must stand before that.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
