"""Commands that `make` runs and that are no stages."""
