"""`python -m experiments.run` with the workers of fake_worker.py and a report of one line."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from experiments import run  # noqa: E402


def write_report(workdir, plots):
    (workdir / "report.md").write_text(f"report, plots={plots}\n")
    return "| the table |\n"


if __name__ == "__main__":
    run.run(run.Command(worker=(sys.executable, str(HERE / "fake_worker.py")), write_report=write_report,
                        prepare=lambda data: None))
    raise AssertionError("run ends the process")
