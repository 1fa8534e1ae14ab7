"""Polar maps drawn from flow values: phantoms with known truth, and UCI's SPECTF patients."""
