"""The stages of the pipeline in dvc.yaml, one script each; `run` and `predict` are the commands beside them."""

import os

# Waiting threads sleep instead of spinning. Two spinning threads on a busy machine take ten times as long as one; read
# by OpenMP when torch is imported, so it must stand before that.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
