"""What everything stands on: errors, files, parameters, tensors, library versions, measured times."""
