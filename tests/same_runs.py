"""Does this code compute what another revision computed? Both train, and their files are compared to the byte.

    python tests/same_runs.py --revision=REVISION --out=FOLDER [--configs=shapes,cifar10] [--epochs=1]

For each config: a whole run by each, and a run that the other revision begins, is stopped in, and this code finishes.
`metrics.csv` has to be the same bytes; `result.json` has to have every key of the other's with the same value (new
keys may come). FOLDER keeps the other revision's runs, so that a second comparison takes half the time. CIFAR-10 is
looked for in $ALEXNET_DATA_DIR. Run it before and after a change that should compute nothing new: shapes takes two
minutes, CIFAR-10 several.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
STOPPED_AFTER = 20  # steps


def checkout(revision: str, out: pathlib.Path) -> pathlib.Path:
    """A clean checkout of `revision` below `out`."""
    tree = out / "tree"
    if not tree.exists():
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(tree)], check=True)
    subprocess.run(["git", "-C", str(tree), "checkout", "--quiet", revision], check=True)
    return tree


def start(tree: pathlib.Path, config: str, epochs: int, workdir: pathlib.Path, out: pathlib.Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(tree), "ALEXNET_STORE_DIR": str(out / "store")}
    command = [sys.executable, "-m", "alexnet_jax.main", f"--config=configs/{config}.py",
               f"--config.train.epochs={epochs}", "--config.checkpoint.every_seconds=0", f"--workdir={workdir}"]
    with (out / "log.txt").open("a") as log:
        return subprocess.Popen(command, cwd=tree, env=environment, stdout=log, stderr=log)


def finish(tree: pathlib.Path, config: str, epochs: int, workdir: pathlib.Path, out: pathlib.Path) -> None:
    code = start(tree, config, epochs, workdir, out).wait()
    if code:
        raise SystemExit(f"{workdir}: ended with {code}; {out / 'log.txt'} says why")


def stop_early(tree: pathlib.Path, config: str, epochs: int, workdir: pathlib.Path, out: pathlib.Path) -> None:
    """Begins a run and stops it when it has made some steps."""
    process = start(tree, config, epochs, workdir, out)
    while process.poll() is None:
        progress = workdir / "progress.json"
        if progress.exists() and json.loads(progress.read_text()).get("step", 0) >= STOPPED_AFTER:
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.2)
    process.wait()
    if (workdir / "result.json").exists() and json.loads((workdir / "result.json").read_text())["status"] == "finished":
        raise SystemExit(f"{workdir}: finished before it could be stopped; give more --epochs")


def differences(theirs: pathlib.Path, mine: pathlib.Path) -> list[str]:
    found = []
    if (theirs / "metrics.csv").read_bytes() != (mine / "metrics.csv").read_bytes():
        found.append("metrics.csv differs")

    def compare(there: dict, here: dict, path: str) -> None:
        for key, value in there.items():
            if isinstance(value, dict) and isinstance(here.get(key), dict):
                compare(value, here[key], f"{path}{key}.")
            elif key not in here or here[key] != value:
                found.append(f"result.json: {path}{key} is {value!r} there, {here.get(key)!r} here")

    compare(*(json.loads((folder / "result.json").read_text()) for folder in (theirs, mine)), "")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revision", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--configs", default="shapes,cifar10")
    parser.add_argument("--epochs", default=1, type=int)
    args = parser.parse_args()
    out = args.out.expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    theirs, failed, stamp = checkout(args.revision, out), False, time.strftime("%H%M%S")
    for config in args.configs.split(","):
        before, after, resumed = (out / f"{config}-{name}" for name in ("before", f"after-{stamp}", f"resumed-{stamp}"))
        if not (before / "result.json").exists():
            finish(theirs, config, args.epochs, before, out)
        finish(ROOT, config, args.epochs, after, out)
        stop_early(theirs, config, args.epochs, resumed, out)
        finish(ROOT, config, args.epochs, resumed, out)
        for name, run in (("whole run", after), ("resumed run", resumed)):
            found = differences(before, run)
            failed = failed or bool(found)
            print(f"{config}, {name}: {'; '.join(found) or 'the same'}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
