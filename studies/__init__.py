"""Studies: what many trainings say that one cannot. Each is a small pipeline of its own: `make studies`."""
