"""Where trials run and in which order; the only package that imports ray or optuna."""
