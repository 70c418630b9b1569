"""The stages of the pipeline in dvc.yaml, one script each, and `predict`, the one command that is not a stage."""
