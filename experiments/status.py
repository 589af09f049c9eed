"""How a sweep stands, from another terminal: `python -m experiments.status --workdir=runs/three`.

Reads the workdir and changes nothing there, so that any user who may read it can look; what it shows as running is
what holds a run's lock.
"""

from __future__ import annotations

import collections
import pathlib
import time
from collections.abc import Sequence

from alexnet_jax import errors, files, names
from alexnet_jax.progress import duration
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
    rows, said, todo = {}, [], []
    for run in plan.order():
        folder = workdir / plan.runs[run].dir
        try:
            state = plan_lib.state_of(folder)
            held = state not in plan_lib.DONE and files.held(folder / ".lock")
            if held:
                state = "running"
                rows[run] = display.progress_of(folder)
            elif held is None:
                said.append(_unknown(plan.label(run), folder))
                state = "unknown"
            elif state == "failed":
                said.append(f"failed: {plan.label(run)}: {(plan_lib.result_of(folder) or {}).get('message')}")
            elif state not in plan_lib.DONE:
                todo.append(run)
        except OSError as error:  # another user's, who lets nobody else look
            said.append(f"unreadable: {plan.label(run)}: {errors.describe_os_error(error)}")
            state = "unreadable"
        counts[state] += 1
    left = display.time_left(costs.Costs(plan, workdir), todo, rows, len(rows)) if rows else None
    caption = ", ".join(f"{counts[state]} {state}" for state in
                        ("finished", "diverged", "failed", "running", "partial", "waiting", "unknown", "unreadable")
                        if counts[state])
    display.show([display.row(plan.label(run), progress) for run, progress in rows.items()],
                 f"{plan.name}: {sum(counts.values())} runs: {caption}{display.in_words(left)}")
    print("\n".join(map(names.plain, said)), end="\n" if said else "")


def _unknown(label: str, folder: pathlib.Path) -> str:
    """What can be said of a run whose lock this user may not look at."""
    progress = folder / "progress.json"
    try:
        seconds, state = time.time() - progress.stat().st_mtime, display.progress_of(folder).get("state")
    except OSError:
        seconds, state = None, None
    sign = "no sign of life" if seconds is None else f"its last sign of life is {duration(seconds)} old ({state})"
    return f"unknown: {label}: {folder / '.lock'} cannot be read, so it may be in use or not; {sign}"


if __name__ == "__main__":
    errors.run_main(main)
