"""From the log of a search to a trained model: choose, export, train again."""
