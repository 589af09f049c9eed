"""What is there to know of this project on an accelerator, in minutes: parts in order of worth, cut off at any moment.

    python -m benchmarks.accelerator --minutes=9 --out=FOLDER        (make accelerator)
    python -m benchmarks.accelerator --quick --out=FOLDER            a rehearsal: tiny networks, a CPU will do

A part is a module here with `run(context)` and a line in `parts.PARTS`. It runs in a process of its own, in steps
(`context.Context.step`): what a step has found is in FOLDER/PART.json at once, and the same command resumes after the
last finished step. Whatever happens to a part, the others run.
"""
