"""Every claim of the paper beside what was measured here: `python -m experiments.claims`, or `make claims`.

`measures` says what is measured for each claim and how it is judged, `rows` makes the table's rows from recorded
results, `table` writes them. What the paper and its author's logs say is data, in `experiments.paper`.
"""

from experiments.paper import CLAIMS, EFFECTS, LOG_RUNS, PAPER, effect, log_difference, signed

__all__ = ["CLAIMS", "EFFECTS", "LOG_RUNS", "PAPER", "effect", "log_difference", "signed"]
