"""Faults that real machines have, made on purpose, and whether a study survives them."""
