"""`python -m experiments.run` with the workers of fake_worker.py and a report of one line.

FAKE_CLOCK: a file whose last number is the time that signals are counted by; each look at it adds a line "looked".
"""

import os
import pathlib
import sys
import types

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from alexnet_jax import signals  # noqa: E402
from experiments import run  # noqa: E402


def write_report(workdir, plots):
    (workdir / "report.md").write_text(f"report, plots={plots}\n")
    return "| the table |\n"


def told_time():
    with open(os.environ["FAKE_CLOCK"], "a+") as clock:
        clock.seek(0)
        found = [line for line in clock.read().splitlines() if line != "looked"]
        clock.write("looked\n")
    return float(found[-1])


if __name__ == "__main__":
    if "FAKE_CLOCK" in os.environ:
        signals.time = types.SimpleNamespace(monotonic=told_time)
    run.run(run.Command(worker=(sys.executable, str(HERE / "fake_worker.py")), write_report=write_report,
                        prepare=lambda data: None))
    raise AssertionError("run ends the process")
