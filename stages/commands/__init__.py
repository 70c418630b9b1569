"""Commands that `make` runs and that are no stages: run, verify, report, add_model, lock_versions."""
