"""How one trial runs: trunk and head, bank, augmentation, folds. Imports no ray or optuna."""
