"""From the files of a cohort to checked values: cells, images, and everything wrong with them."""
