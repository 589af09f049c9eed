"""A sweep of the three ablations × 3 seeds: the time breakdown of its processes, and the number of compilations.

    python -m benchmarks.sweep --out=benchmarks/results/sweep.json

Runs configs/sweeps/three.py in a new folder with an empty compilation cache in two ways: one worker per core, and one
worker at a time with all cores. Then once more with other seeds and a filled cache.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from alexnet_jax import run_files
from alexnet_jax.errors import UserError
from benchmarks import command, contenders, rounds

_ROOT = pathlib.Path(__file__).resolve().parents[1]
PARTS = ("train", "compile", "evaluate", "checkpoint")
_COMMAND = """
import sys
from experiments import run
run.run(run.Command(worker=(sys.executable, "-m", "benchmarks.sweep_worker")))
"""


def main(args) -> None:
    result = command.begin("sweep", args)
    cores = contenders.cores(args.threads)
    with contenders.Contender("ours", cores) as ours:
        command.device(result, (ours,), cores)
    ways = {"one core each": len(cores), "one with all cores": 1}
    if len(cores) == 1:
        del ways["one with all cores"]
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        # The images are drawn beforehand, untimed.
        subprocess.run([sys.executable, "-m", "alexnet_jax.data.prepare", "--config=configs/shapes.py"], cwd=_ROOT,
                       check=True, stdout=subprocess.DEVNULL)
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
        again: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
        for turn in range(args.rounds):
            for way, jobs in ways.items():
                cache = root / f"cache-{jobs}-{turn}"
                for runs, seeds in ((found, "0,1,2"), (again, "3,4,5")):
                    seeds = seeds.split(",")[0] if args.quick else seeds
                    workdir = root / f"sweep-{jobs}-{turn}-{seeds}"
                    runs[way].append(_sweep(workdir, cache, jobs, cores,
                                            [f"--seeds={seeds},", *_short(args, args.epochs)]))
                    command.say(f"{way}, round {turn + 1} of {args.rounds}, seeds {seeds}: "
                                f"{runs[way][-1]['wall']:.0f} s")
    result["rows"] = [{"way": way, "cache": cache, "runs": runs[way][0]["runs"], "jobs": jobs,
                       "wall": rounds.summary([x["wall"] for x in runs[way]]),
                       "parts": {part: rounds.summary([x["parts"][part] for x in runs[way]])
                                 for part in runs[way][0]["parts"]},
                       "compiled": [x["compiled"] for x in runs[way]], "cached": [x["cached"] for x in runs[way]],
                       "steps_compiled": [x["steps_compiled"] for x in runs[way]]}
                      for cache, runs in (("empty", found), ("filled", again)) for way, jobs in ways.items()]
    command.finish(result, args, table)


def _short(args, epochs: int) -> list[str]:
    given = [f"--config.train.epochs={epochs}"]
    if args.quick:
        given += ["--config.data.train_split=train[:128]", "--config.data.eval_split=test[:64]"]
        given += [f"--config.model.conv{i}.features=8" for i in range(1, 6)]
        given += ["--config.model.fc6.features=8", "--config.model.fc7.features=8", "--ablations=lrn"]
    return given


def _sweep(workdir: pathlib.Path, cache: pathlib.Path, jobs: int, cores: list[int], arguments: list[str]
           ) -> dict[str, Any]:
    """Runs the sweep; returns {'wall', 'runs', 'parts' (fractions of jobs × wall), 'compiled', 'cached', …}."""
    env = dict(os.environ) | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), env.get("PYTHONPATH"))))
    before = _programs(cache)
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, "--sweep=configs/sweeps/three.py", f"--workdir={workdir}", f"--jobs={jobs}",
         *arguments], env=env, cwd=_ROOT, capture_output=True, encoding="utf-8", errors="replace", check=False,
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if hasattr(os, "sched_setaffinity") else None)
    wall = time.perf_counter() - begin
    if done.returncode:
        last = " ".join((done.stderr or done.stdout).split())[-300:]
        raise UserError(f"the sweep ended with exit code {done.returncode}: {last}")
    spent = [json.loads(path.read_text("utf-8")) for path in sorted(workdir.glob("runs/*/spent.json"))]
    plan = run_files.read_json(workdir / "plan.json")
    assert plan is not None
    if len(spent) != len(plan["runs"]):
        raise UserError(f"{len(plan['runs'])} runs and {len(spent)} with a spent.json")
    slots = jobs * wall
    parts = {part: sum(x[part] for x in spent) / slots for part in PARTS}
    parts["start"] = sum(x["start"] for x in spent) / slots
    # The rest of training: the first step of each run, the log, the records.
    parts["rest of the runs"] = sum(x["inside"] for x in spent) / slots - sum(parts[part] for part in PARTS)
    parts["outside the runs"] = 1 - sum(x["process"] for x in spent) / slots
    steps = len([name for name in _programs(cache) - before if name.startswith("jit__train_step")])
    return {"wall": wall, "runs": len(spent), "parts": parts, "steps_compiled": steps,
            "compiled": sum(x["programs"] - x["cached"] for x in spent), "cached": sum(x["cached"] for x in spent)}


def _programs(cache: pathlib.Path) -> set[str]:
    """The compiled programs in a persistent cache."""
    return {path.name for path in cache.glob("*-cache")} if cache.is_dir() else set()


def table(result: command.Result) -> list[str]:
    """The result as Markdown."""
    names = list(result["rows"][0]["parts"])
    rows = [[f"{row['jobs']} × {row['way']}" if row["jobs"] > 1 else row["way"], row["cache"], f"{row['runs']}",
             f"{row['wall']['median']:,.0f}", *(f"{100 * row['parts'][name]['median']:.1f}%" for name in names),
             f"{row['steps_compiled'][0]}", f"{row['compiled'][0]} / {row['cached'][0]}"] for row in result["rows"]]
    return [*command.markdown(["workers", "cache", "runs", "wall, s", *names, "training steps compiled",
                               "programs compiled / from the cache"], rows), "",
            "Percentages are of all workers' time, wall × workers. Start: a process and its imports, to the call of "
            "train. Outside the runs: the sweep itself, its report, workers that have nothing left to do."]


if __name__ == "__main__":
    made = command.parser("sweep", __doc__, rounds=1)
    made.add_argument("--epochs", type=int, default=3, help="of a run (3, as in the sweep)")
    command.run(main, made)
