"""What polartune costs and what it gives, measured: `python -m benchmarks.NAME`."""
