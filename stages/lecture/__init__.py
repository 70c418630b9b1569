"""The lecture under its own names, thin over the project's. No stage uses it."""
