"""Every claim of the paper beside what was measured here: `python -m experiments.claims`, or `make claims`.

To add a claim, write one record into `registry` (what a record has: `record`; in which data, networks and schedules:
`regimes`). `judging` holds recorded runs against it, `rows` makes the table's rows, `table` writes them, `commands` has
the commands beside them. The rules for a verdict and a star are in `experiments.analysis.verdicts`.
"""
