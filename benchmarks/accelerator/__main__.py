"""Tests this project on the accelerator that JAX sees, in minutes: is it right, is it fast, what is it good for?

Each part's JSON is in the folder as soon as it has a number. The command may be interrupted at any time; the same
command resumes it. Without an accelerator: --quick.
"""

from __future__ import annotations

import argparse
import math
import pathlib

from alexnet_jax import commands
from benchmarks import command
from benchmarks.accelerator import course
from benchmarks.accelerator.parts import PARTS


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < 1e5:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes")
    return minutes


def main() -> int:
    parser = commands.Parser("benchmarks.accelerator", __doc__)
    parser.add_argument("--minutes", type=_minutes, default=9.0, help="the command ends after these (9)")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="a folder for the results, made if absent")
    parser.add_argument("--parts", default="", help=f"some of {', '.join(part.name for part in PARTS)}, in their order")
    parser.add_argument("--quick", action="store_true", help="a rehearsal with tiny networks; a CPU will do")
    args = parser.parse_args()
    given = f"python -m benchmarks.accelerator {' '.join(command._given())}"
    return course.Course(args.out, 60 * args.minutes, args.quick, given).run(course.chosen(args.parts))


if __name__ == "__main__":
    commands.run_main(main)
