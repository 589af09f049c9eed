"""This project on an accelerator, checked and measured in minutes: parts in order of value, to be interrupted at will.

    python -m benchmarks.accelerator --minutes=9 --out=FOLDER        (make accelerator)
    python -m benchmarks.accelerator --quick --out=FOLDER            a rehearsal: tiny networks, a CPU will do

A part is a module here with `run(context)` and a line in `parts.PARTS`. It runs in a process of its own, in steps
(`context.Context.step`): a step's result is in FOLDER/PART.json at once, and the same command resumes after the last
finished step. A part that fails doesn't stop the others.
"""
