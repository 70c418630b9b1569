"""The prepared images: splits, batches and their loaders."""
