"""The report of a run: one HTML page, its figures and the tables beside it."""
