"""Numbers in, a matplotlib figure out: curves, differences, and the paper's figures 1, 3 and 4."""
