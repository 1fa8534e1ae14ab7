"""What may vary: parameters, the study file, the run directory. Imports no torch, ray or optuna."""
