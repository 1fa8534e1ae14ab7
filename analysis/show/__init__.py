"""For the terminal and notebooks: what a study would cost, how far a run is, what it found."""
