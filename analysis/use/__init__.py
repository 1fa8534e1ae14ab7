"""A trained model at work on new patients."""
