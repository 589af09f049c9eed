"""Checks and measures this project on an accelerator in minutes, in parts ordered by value; interruptible at any time.

    python -m benchmarks.accelerator --minutes=9 --out=FOLDER        (make accelerator)
    python -m benchmarks.accelerator --quick --out=FOLDER            a rehearsal: tiny networks, a CPU will do

A part is a module here with `run(context)` and an entry in `parts.PARTS`. It runs in its own process, in steps
(`context.Context.step`): each step's result is written to FOLDER/PART.json immediately, and the same command resumes
after the last finished step. A part that fails doesn't stop the others.
"""
