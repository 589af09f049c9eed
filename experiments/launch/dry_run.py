"""What `experiments.run --dry_run` shows: arms, runs, the search of learning rates, and what they would cost."""

from __future__ import annotations

import pathlib

from alexnet_jax import names
from alexnet_jax.progress import duration
from experiments import executors
from experiments.launch import costs
from experiments.sweep import plan as plan_lib
from experiments.sweep import search


def count(number: int, what: str) -> str:
    """'1 run', '2 runs'."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def show_search(standing: search.Standing, workdir: pathlib.Path | None, asked: plan_lib.Plan) -> None:
    """What the search has found, or would run and what it would cost."""
    if standing.choices is not None and workdir is not None:
        for name, choice in standing.choices.items():
            print(f"{name}: {choice.field} {choice.best.value:g}, by its search" + (
                  " (at the edge of the grid)" if choice.at_edge else ""))
        return
    folder = (workdir or pathlib.Path()) / search.FOLDER
    runs = standing.plan.runs.values()
    todo = [run.id for run in runs if workdir is None or plan_lib.state_of(folder / run.dir) not in plan_lib.DONE]
    data, epochs = standing.config.data, standing.config.train.epochs
    cost = None if workdir is None else costs.Costs(standing.plan, folder).left_of(todo, 1)
    if cost is None and workdir is not None:  # by the runs that the sweep itself has had
        whole, asked = plan_lib.merge(plan_lib.read(workdir), asked, workdir)
        each = costs.Costs(whole, workdir).per_epoch(asked.arms[0].name)
        cost = None if each is None else each * epochs * len(todo)
    print(f"search of learning rates first: {count(len(runs), 'run')} of {count(epochs, 'epoch')} on "
          f"{data.train_split}, judged on {data.eval_split}; {len(todo)} to do, {count(epochs * len(todo), 'epoch')}"
          + (f", about {duration(cost)} of run time" if cost is not None else "")
          + f"; more where the best lies at the grid's edge\n  {', '.join(arm.name for arm in standing.plan.arms[1:])}")


def show(whole: plan_lib.Plan, asked: plan_lib.Plan, workdir: pathlib.Path, executor: executors.Executor,
          nothing_there: bool = False) -> None:
    """The plan for people: arms, runs and what they would cost."""
    states = {run: "waiting" if nothing_there else plan_lib.state_of(workdir / asked.runs[run].dir)
              for run in asked.order()}
    aliases = asked.aliases()
    width = max(len(arm.name) for arm in asked.arms)
    names.say(f"{asked.name}: base {asked.config}, seeds {', '.join(map(str, asked.seeds))}")
    for arm in asked.arms:
        changes = " ".join(f"{k}={v!r}" for k, v in arm.overrides.items()) or "the base as it is"
        same = f"  (the same runs as {aliases[arm.name]})" if arm.name in aliases else ""
        names.say(f"  {arm.name:<{width}}  {changes}{same}")
    todo = [run for run, state in states.items() if state not in plan_lib.DONE]
    notes = [f"{n} {word}" for word, n in (
        ("finished", sum(s == "finished" for s in states.values())),
        ("diverged", sum(s == "diverged" for s in states.values())),
        ("to go on", sum(s == "partial" for s in states.values())),
        ("failed before, to be tried again", sum(s == "failed" for s in states.values()))) if n]
    print(f"{count(len(states), 'run')}, {len(todo)} to do" + (f" ({', '.join(notes)})" if notes else ""))
    left = None if nothing_there else costs.Costs(whole, workdir).left_of(todo, executor.slots)
    if not todo:
        print("nothing to run")
    elif left is None:
        print(f"cost: unknown until a run has its first evaluation ({executor.description}); "
              f"{sum(asked.runs[run].config['train']['epochs'] for run in todo):,} epochs in all")
    else:
        print(f"cost: about {duration(left)} ({executor.description}), by the times of runs that are there")
