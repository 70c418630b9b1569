"""The stages of the pipeline in dvc.yaml, one script each; `run`, `predict`, `report` and `verify` are commands."""

import os

# How long a thread that waits for another spins before it sleeps. OpenMP's default is thirty times that: on a busy
# machine, where the other may not be running at all, two threads then take many times as long as one. Without any
# spinning they are slow on an idle machine. `make bench` shows it. Read when torch is imported: must stand before that.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
