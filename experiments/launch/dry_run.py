"""What `experiments.run --dry_run` shows: arms, runs, the search of learning rates, and what they would cost."""

from __future__ import annotations

import pathlib

from alexnet_jax import names
from alexnet_jax.text import count, duration, listed
from experiments import executors
from experiments.launch import costs
from experiments.sweep import plan as plan_lib
from experiments.sweep import search


def show_search(standing: search.Standing, workdir: pathlib.Path | None, executor: executors.Executor) -> None:
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
    cost = costs.Costs(standing.plan, folder, executor.device).left_of(todo, 1) if workdir is not None else None
    print(f"search of learning rates first: {count(len(runs), 'run')} of {count(epochs, 'epoch')} on "
          f"{data.train_split}, judged on {data.eval_split}; {len(todo)} to do, {count(epochs * len(todo), 'epoch')}"
          + (f", about {duration(cost.seconds)} of run time" if cost and todo and not cost.unknown else "")
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
        ("to resume", sum(s == "partial" for s in states.values())),
        ("failed before, to be tried again", sum(s == "failed" for s in states.values()))) if n]
    print(f"{count(len(states), 'run')}, {len(todo)} to do" + (f" ({', '.join(notes)})" if notes else ""))
    print("\n".join(cost_in_words(costs.Costs(whole, workdir, executor.device), todo, executor,
                                  nothing_there)) if todo else "nothing to run")


def cost_in_words(known: costs.Costs, todo: list[str], executor: executors.Executor,
                  nothing_there: bool = False) -> list[str]:
    """What runs would cost, by those of the same kind on the same kind of device; of the others that it is unknown."""
    left = costs.Left(0.0, tuple(todo)) if nothing_there else known.left_of(todo, executor.slots)
    on = f" on {executor.device}" if executor.device else ""
    lines = []
    if len(left.unknown) < len(todo):
        some = f" for {len(todo) - len(left.unknown)} of them" if left.unknown else ""
        lines.append(f"cost: about {duration(left.seconds)}{some} ({executor.description}), by the times of "
                         f"existing runs{on}")
    if left.unknown:
        arms = list(dict.fromkeys(known.arm_of(run) for run in left.unknown))
        some = f" for {count(len(left.unknown), 'run')} ({listed(arms)})" if lines else ""
        lines.append(f"cost: unknown{some} until a run{' like them' if lines else ''} has its first evaluation{on} "
                     f"({executor.description}); {sum(map(known.epochs, left.unknown)):,} epochs in all")
        if not nothing_there and known.elsewhere:
            lines.append(f"  existing runs were timed on other devices: "
                         f"{'; '.join(map(str, known.elsewhere))}")
    return lines
