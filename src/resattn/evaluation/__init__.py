"""How good a network is: accuracy, calibration, confusion; predictions for unlabelled splits."""
