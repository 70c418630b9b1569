"""What the predictions of models amount to: statistics, calibration, the comparison as text."""
