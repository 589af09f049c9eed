"""How a sweep stands, from another terminal: `python -m experiments.status --workdir=runs/three`.

Reads the workdir and changes nothing there; what it shows as running is what holds a run's lock.
"""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Sequence

from alexnet_jax import errors
from experiments import costs, display
from experiments import plan as plan_lib


def main(argv: Sequence[str] | None = None) -> None:
    parser = errors.Parser("experiments.status", __doc__)
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="the sweep's folder")
    workdir = parser.parse_args(argv).workdir
    plan = plan_lib.read(workdir)
    if plan is None and (workdir / "search").is_dir():  # a sweep begins with the search of its learning rates
        workdir = workdir / "search"
        plan = plan_lib.read(workdir)
    if plan is None:
        raise errors.ConfigError(f"--workdir={workdir}: no plan.json, so no sweep of experiments.run")
    counts: collections.Counter[str] = collections.Counter()
    rows, failed, todo = {}, [], []
    for run in plan.order():
        folder = workdir / plan.runs[run].dir
        state = plan_lib.state_of(folder)
        if state not in plan_lib.DONE and plan_lib.in_use(folder):
            state = "running"
            rows[run] = display.progress_of(folder)
        elif state == "failed":
            failed.append(f"failed: {plan.label(run)}: {(plan_lib.result_of(folder) or {}).get('message')}")
        elif state not in plan_lib.DONE:
            todo.append(run)
        counts[state] += 1
    left = display.time_left(costs.Costs(plan, workdir), todo, rows, len(rows)) if rows else None
    caption = ", ".join(f"{counts[state]} {state}" for state in
                        ("finished", "diverged", "failed", "running", "partial", "waiting") if counts[state])
    display.show([display.row(plan.label(run), progress) for run, progress in rows.items()],
                 f"{plan.name}: {sum(counts.values())} runs: {caption}{display.in_words(left)}")
    print("\n".join(failed), end="\n" if failed else "")


if __name__ == "__main__":
    errors.run_main(main)
