"""A storm of signals over small sweeps and over the packing of images: is anything lost?

    python tests/storm.py --minutes=60 [--seed=1] [--folder=FOLDER]

Each round is a sweep of real, tiny runs, or two builders of one store, both in a new folder. While they work, SIGKILL,
SIGTERM, SIGINT and SIGHUP come down at random on the driver, on a worker or on both, also at the very moment when
something is being written; whoever ends too early is started again by the same command. At last they are left alone,
and the round is held against one that nobody disturbed: the same bytes in each result, each run finished once and not
touched after that, no lock, process or half-written file left, and TensorBoard's events are the rows of metrics.csv.

Prints what it does. Exit code 1 if anything was lost, with the folders left as they are. Linux only.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import emulated  # noqa: E402
import tiny_run  # noqa: E402

from alexnet_jax import files, run_files  # noqa: E402

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TARGETS = ("driver", "worker", "worker", "both")
FIELDS = tiny_run.TINY | {"train.epochs": 12, "checkpoint.every_seconds": 0.2, "augment.chunk": 8}
SAME = ("metrics.csv", "result.json", "outcomes.json")
PATIENCE = 240.0  # seconds in which a command that is left alone has to end
SHAPES = {"data.size": 56, "data.crop": 48, "data.eval_split": "test[:20]"}


class Lost(Exception):
    """What must not happen."""


def check(condition, words):
    if not condition:
        raise Lost(words)


class Command:
    """A command that is started, disturbed and started again.

    Args:
      place: what it writes to: where something may be half written.
    """

    def __init__(self, arguments, folder, place, env):
        self.arguments, self.folder, self.place, self.env = arguments, folder, place, env
        self.process, self.starts = None, 0

    def start(self):
        self.starts += 1
        with (self.folder / "output.txt").open("ab") as out:
            self.process = subprocess.Popen([sys.executable, *self.arguments], cwd=HERE.parent, env=self.env,
                                            stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def children(self):
        file = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        with contextlib.suppress(OSError):
            return [int(number) for number in file.read_text().split()]
        return []

    def hit(self, number, target, say):
        """Sends the signal; says nothing where its target is gone."""
        victims = [] if target == "driver" else self.children()[:1]
        if target != "worker" or not victims:
            victims.append(self.process.pid)
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, number)
        say(f"{signal.Signals(number).name} to {'the driver' if victims == [self.process.pid] else 'a ' + target}"
            .replace("a both", "driver and worker"))

    def come_to_an_end(self):
        """Starts it until it has done all that it should, undisturbed."""
        end, starts = time.monotonic() + PATIENCE, 0
        while True:
            if not self.running():
                if self.process is not None and self.process.returncode == 0:
                    return
                check(starts < 3, f"{self.folder}: three starts that nobody disturbed ended with errors; the last with "
                      f"{self.process and self.process.returncode}, see output.txt there")
                self.start()
                starts += 1
            try:
                self.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise Lost(f"{self.folder}: hangs; see output.txt there") from None


def half_written(place):
    return next((path for pattern in ("**/.*.tmp", "**/*orbax-checkpoint-tmp*", ".*.building")
                 for path in place.glob(pattern)), None)


def leftovers(place):
    """What should not be in a folder after a quiet end."""
    for folder in [place, *place.glob("**/")]:
        files.clear(folder, old=0.0)  # as the next command would in a minute; who is alive is left alone
    return [str(path) for pattern in ("**/.*.tmp", "**/*-tmp*", ".*.building*", "**/unreadable-checkpoint-*")
            for path in place.glob(pattern)] + [
        f"{path} (locked)" for path in place.glob("**/.*lock") if files.held(path)]


def processes(text):
    """Numbers of the processes whose command line has this text."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text in path.read_bytes().decode("utf-8", "replace") and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


class Storm:
    """Args: short: small images, which are packed in a second, and signals as soon."""

    def __init__(self, folder, seed, short):
        self.shapes = SHAPES | ({"data.size": 32, "data.crop": 24} if short else {})
        self.packing = 1.5 if short else 4.0  # seconds, at most, until a builder is hit
        self.folder, self.chance, self.began = folder, random.Random(seed), time.monotonic()
        self.done = collections.Counter()
        self.env = {"XLA_FLAGS": emulated.QUICK} | os.environ | {
            "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"), "PYTHONPATH": str(HERE.parent),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        self.env.pop("ALEXNET_STORE_DIR", None)

    def say(self, text):
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    def hit(self, command):
        number, target = self.chance.choice(SIGNALS), self.chance.choice(TARGETS)
        command.hit(number, target, self.say)
        self.done[f"{signal.Signals(number).name} {target}"] += 1
        if number == signal.SIGINT and self.chance.random() < 0.3:  # somebody is in a hurry
            time.sleep(1.1)
            if command.running():
                command.hit(number, target, self.say)

    def moment(self, command, longest):
        """Waits for a moment to strike: any, or one when something is being written."""
        end = time.monotonic() + longest * self.chance.random()
        writing = self.chance.random() < 0.4
        while time.monotonic() < end and command.running():
            if writing and half_written(command.place):
                return
            time.sleep(0.002)

    # Sweeps.

    def sweep(self, name):
        folder = self.folder / name
        folder.mkdir()
        arguments = [str(HERE / "tiny_sweep.py"), "--config=configs/shapes.py", "--ablations=lrn.no_lrn", "--seeds=1",
                     "--jobs=2", "--cores=1", f"--workdir={folder / 'sweep'}", *(
                         f"--config.{key}={str(value).replace(' ', '')}" for key, value in FIELDS.items()),
                     f"--config.data.store={folder / 'store'}"]
        return Command(arguments, folder, folder / "sweep", self.env)

    def runs(self, command):
        """{folder's name: folder} of a sweep's runs."""
        return {path.name: path for path in (command.place / "runs").glob("*")}

    def sweep_round(self, name, kills, reference):
        command, seen = self.sweep(name), {}
        for _ in range(kills):
            if not command.running():
                if command.process is not None and command.process.returncode == 0:
                    break
                command.start()
            self.moment(command, 9.0)
            for run, folder in self.runs(command).items():
                if run not in seen and (folder / "result.json").exists():
                    seen[run] = (folder / "result.json").stat().st_mtime_ns
            if command.running():
                self.hit(command)
        command.come_to_an_end()
        self.check_sweep(command, reference, seen)
        self.say(f"{name}: {command.starts} starts, {len(self.runs(command))} runs are what they should be")
        shutil.rmtree(command.folder)

    def check_sweep(self, command, reference, seen):
        runs = self.runs(command)
        check(runs.keys() == self.runs(reference).keys(), f"{command.folder}: other runs than in {reference.folder}")
        for run, folder in runs.items():
            other = self.runs(reference)[run]
            for file in SAME:
                check((folder / file).read_bytes() == (other / file).read_bytes(), f"{folder / file}: other bytes than "
                      f"{other / file}, which nobody disturbed")
            times = (folder / "log.txt").read_text("utf-8").count(" finished: ")
            check(times == 1, f"{folder}: finished {times} times, says its log.txt")
            written = (folder / "result.json").stat().st_mtime_ns
            check(seen.get(run, written) == written, f"{folder}: run again when it was finished")
            check_events(folder)
        end = time.monotonic() + PATIENCE  # a run's lock is free, and it counted, a moment before its process has ended
        while (left := processes(str(command.folder))) and time.monotonic() < end:
            time.sleep(0.1)
        check(not left, f"still running: {left}")
        check(not leftovers(command.folder), f"left behind: {leftovers(command.folder)}")

    # Packing.

    def builder(self, name, number):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        arguments = ["-m", "alexnet_jax.data.prepare", "--config=configs/shapes.py", *(
            f"--config.{key}={value}" for key, value in self.shapes.items()), f"--config.data.store={folder / 'store'}"]
        return Command(arguments, folder, folder / "store", self.env | {"STORM": str(number)})

    def packing_round(self, name, kills, reference):
        commands = [self.builder(name, number) for number in range(2)]
        for _ in range(kills):
            for command in commands:
                if not command.running() and not (command.process is not None and command.process.returncode == 0):
                    command.start()
            running = [command for command in commands if command.running()]
            if not running:
                break
            command = self.chance.choice(running)
            self.moment(command, self.packing)
            if command.running():
                self.hit(command)
        for command in commands:
            command.come_to_an_end()
        stores = [{path.relative_to(c.place): path.read_bytes() for path in sorted(c.place.glob("shapes-*/[!s]*"))}
                  for c in (commands[0], reference)]
        check(stores[0] and stores[0] == stores[1], f"{commands[0].place}: other bytes than in {reference.place}")
        check(not leftovers(commands[0].folder), f"left behind: {leftovers(commands[0].folder)}")
        self.say(f"{name}: {sum(c.starts for c in commands)} starts, the store is what it should be")
        shutil.rmtree(commands[0].folder)

    def rage(self, minutes):
        """Rounds of both kinds in turn for that long, one of each at least."""
        quiet, packed = self.sweep("quiet"), self.builder("packed", 0)
        packed.start()
        for command in (quiet, packed):
            command.come_to_an_end()
        self.say(f"what nobody disturbs is done: {len(self.runs(quiet))} runs, 2 stores")
        rounds = 0
        while rounds < 2 or time.monotonic() - self.began < 60 * minutes:
            rounds += 1
            kills = self.chance.randint(2, 10) if minutes >= 1 else 2
            if rounds % 2:
                self.sweep_round(f"sweep-{rounds}", kills, quiet)
            else:
                self.packing_round(f"packing-{rounds}", kills, packed)
        self.say(f"{rounds} rounds, {sum(self.done.values())} signals, nothing lost: " + ", ".join(
            f"{count} × {what}" for what, count in sorted(self.done.items())))


def check_events(folder):
    """TensorBoard's scalars are the rows of metrics.csv, whatever was interrupted."""
    try:
        import test_training_events
    except ImportError:
        return
    found = test_training_events.read(folder)
    for tag, column in (("eval/loss", "eval_loss"), ("train/top1_error", "train_top1_error")):
        rows = {row["step"]: row[column] for row in run_files.read_rows(folder / "metrics.csv")}
        check(found[tag].keys() == rows.keys() and all(abs(found[tag][step] - rows[step]) < 1e-5 for step in rows),
              f"{folder}: TensorBoard's {tag} is not that of metrics.csv")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0, help="of what strikes when, as far as the machine is the same")
    parser.add_argument("--folder", type=pathlib.Path, help="where it rages (default: a temporary one)")
    options = parser.parse_args(argv)
    folder = options.folder or pathlib.Path(tempfile.mkdtemp(prefix="storm-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        Storm(folder.resolve(), options.seed, options.minutes < 1).rage(options.minutes)
    except Lost as what:
        print(f"LOST: {what}", flush=True)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
