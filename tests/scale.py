"""What a sweep of ten thousand runs costs to plan, to take up again, to report and to look at: seconds and MB.

    python tests/scale.py FOLDER [RUNS]

writes a hundred arms of finished runs there (through the functions that runs use, in some minutes; kept for the next
time) and then measures each step in a process of its own. Not a test: test_launch_scale.py asserts something of it.
"""

import pathlib
import resource
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

ARMS, EPOCHS = 100, 10


def planned(runs):
    from alexnet_jax import cli, config
    from experiments.sweep import plan
    from experiments.sweep.ablations import Arm

    arms = [Arm(f"dropout_{i}", {"model.dropout": i / 1000}) for i in range(1, ARMS)]
    base = config.override(config.resolve(cli.load_config("configs/shapes.py")), {"train.epochs": EPOCHS})
    return plan.build(base, "configs/shapes.py", "scale", arms, range(max(1, runs // ARMS)))


def write(workdir, runs):
    """The plan and finished runs of it."""
    import fake_sweep

    from alexnet_jax import config
    from experiments.sweep import plan

    whole = planned(runs)
    workdir.mkdir(parents=True)
    for run in whole.runs.values():
        fake_sweep.write_run(workdir / run.dir, config.from_json(run.config), name=whole.arm_of(run.id).name,
                             outcomes=True)
    plan.write(whole, workdir)


def take_up(workdir, runs):
    """Plans, finds what is there and writes the plan again: what `experiments.run` does before it starts a run."""
    from experiments.executors import Unasked
    from experiments.launch import costs, schedule
    from experiments.sweep import plan

    whole, asked = plan.merge(plan.read(workdir), planned(runs), workdir)
    plan.write(whole, workdir)
    state = schedule.Schedule(whole, workdir, asked.order(), Unasked(1), None).state
    costs.Costs(whole, workdir)
    assert len(state.finished) == len(whole.runs)


def report(workdir, _runs):
    from experiments import report

    report.write_report(workdir, plots=False)


def report_with_curves(workdir, _runs):
    from experiments import report

    report.write_report(workdir)


def status(workdir, _runs):
    from experiments import status

    status.main([f"--workdir={workdir}"])


STEPS = (take_up, report, report_with_curves, status)


def main():
    workdir, runs = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    if len(sys.argv) > 3:
        begin, cpu = time.perf_counter(), time.process_time()
        next(step for step in STEPS if step.__name__ == sys.argv[3])(workdir, runs)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{sys.argv[3]:20} {time.perf_counter() - begin:6.1f} s, {time.process_time() - cpu:6.1f} s of CPU, "
              f"{memory:4.0f} MB")
        return
    if not workdir.exists():
        write(workdir, runs)
    for step in STEPS:
        subprocess.run([sys.executable, __file__, str(workdir), str(runs), step.__name__], check=True)


if __name__ == "__main__":
    main()
