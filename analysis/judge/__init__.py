"""What the chosen model is worth: freeze everything, open the test set once, measure, compare."""
