"""The state of a sweep or of a single run, from another terminal: `python -m experiments.status --workdir=runs/three`.

It only reads the workdir, so read permission is enough; a run counts as running while its lock is held.
"""

from __future__ import annotations

import collections
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from alexnet_jax import commands, errors, files, names, run_files
from alexnet_jax.text import duration
from experiments.analysis import packed, workdirs
from experiments.launch import costs, display
from experiments.sweep import plan as plan_lib


def main(argv: Sequence[str] | None = None) -> None:
    parser = commands.Parser("experiments.status", __doc__)
    parser.add_workdir("FOLDER", "the sweep's folder, or one run's")
    workdir = parser.parse_args(argv).workdir
    if packed.is_packed(workdir):
        sweep = workdirs.read_sweep(workdir)
        counts = collections.Counter(run.state for run in sweep.runs.values())
        print(f"{names.plain(sweep.name)}, a record of {sum(counts.values())} runs: "
              + ", ".join(f"{count} {state}" for state, count in counts.items()))
        return
    plan = plan_lib.read(workdir)
    if plan is None and (workdir / "search").is_dir():  # a sweep begins with the search of its learning rates
        workdir = workdir / "search"
        plan = plan_lib.read(workdir)
    if plan is None and ((workdir / "run.json").exists() or files.held(workdir / ".lock")):
        _single(workdir)
        return
    if plan is None:
        raise errors.ConfigError(f"--workdir={workdir}: no plan.json or run.json in it, so it is not a folder of "
                                 "experiments.run or alexnet_jax.main")
    counts = collections.Counter[str]()
    rows, said, todo = {}, [], []
    for run in plan.order():
        state, progress, line = _look(workdir / plan.runs[run].dir, plan.label(run))
        if state == "running":
            rows[run] = progress
        elif state not in (*plan_lib.DONE, "failed", "unknown", "unreadable"):
            todo.append(run)
        said += [line] if line else []
        counts[state] += 1
    known = costs.Costs(plan, workdir)
    for run in filter(rows.get, rows):
        known.observe(run)
    left = display.time_left(known, todo, rows, len(rows)) if rows else None
    caption = ", ".join(f"{counts[state]} {state}" for state in
                        ("finished", "diverged", "failed", "running", "partial", "waiting", "unknown", "unreadable")
                        if counts[state])
    display.show([display.row(plan.label(run), progress) for run, progress in rows.items()],
                 f"{plan.name}: {sum(counts.values())} runs: {caption}{display.in_words(left)}")
    print("\n".join(map(names.plain, said)), end="\n" if said else "")


def _single(folder: pathlib.Path) -> None:
    """Shows one run's folder."""
    label = str((run_files.read_json(folder / "run.json", shared=True) or {}).get("name") or folder.absolute().name)
    state, progress, line = _look(folder, label)
    result = plan_lib.result_of(folder) if state in plan_lib.DONE else None
    if state == "partial":
        progress = display.progress_of(folder)
        epoch = f" at epoch {progress['epoch']:g} of {progress['epochs']}" if progress.get("epochs") else ""
        line = f"{label}: partial{epoch}; the command that began it resumes it"
    display.show([display.row(label, progress)] if state == "running" else [],
                 f"{label}: {display.describe_result(result)}" if result else line or f"{label}: {state}")


def _look(folder: pathlib.Path, label: str) -> tuple[str, dict[str, Any], str]:
    """(the state of a run, its progress if it is running, a further line or '')."""
    try:
        state = plan_lib.state_of(folder)
        held = state not in plan_lib.DONE and files.held(folder / ".lock")
        if held:
            return "running", display.progress_of(folder), ""
        if held is None:
            return "unknown", {}, _unknown(label, folder)
        if state == "failed":
            return state, {}, f"failed: {label}: {(plan_lib.result_of(folder) or {}).get('message')}"
        return state, {}, ""
    except OSError as error:  # no permission
        return "unreadable", {}, f"unreadable: {label}: {errors.describe_os_error(error)}"


def _unknown(label: str, folder: pathlib.Path) -> str:
    """The line for a run whose lock this user may not read."""
    progress = folder / "progress.json"
    try:
        seconds, state = time.time() - progress.stat().st_mtime, display.progress_of(folder).get("state")
    except OSError:
        seconds, state = None, None
    sign = "no sign of life" if seconds is None else f"its last sign of life is {duration(seconds)} old ({state})"
    return f"unknown: {label}: {folder / '.lock'} cannot be read, so it may be in use or not; {sign}"


if __name__ == "__main__":
    commands.run_main(main)
