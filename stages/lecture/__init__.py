"""Helpers of the lecture that no stage uses."""
