"""One run: the loop, its compiled programs, their feed, evaluation, checkpoints, and what it leaves behind."""
