"""Numbers from arrays: intervals, metrics, agreement, tables of groups; no run, no file."""
