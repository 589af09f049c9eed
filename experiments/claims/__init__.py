"""The table of the paper's claims and the measurements here: `python -m experiments.claims`, or `make claims`.

To add a claim, add a record to `registry` (its fields: `record`; data, networks and schedules: `regimes`). `judging`
compares recorded runs with it, `rows` makes the table's rows, `table` formats them, `commands` has the commands for
them. The rules for a verdict and a star are in `experiments.analysis.verdicts`.
"""
