"""FOLDER/PART.json: what a part has found so far. Imports no JAX.

`{"schema", "part", "what", "quick", "note" (of a rehearsal), "status", "error" (why it failed), "command", "begun":
[UTC, …] (a process each), "device", "versions" (of machine.json), "steps": {name: what it has found}, "under_way"
(a step's name)}`. A step's entry is what the part has given, with "seconds" and "revision" (the project's, with "+"
where there were uncommitted changes). "partial" is true in one that was cut off, and "error" says why one failed, in
the command that began at "attempt". "right" is false in one that checked something and found it wrong.

`status`: "under way" (or killed); "cut off" (there was no time for all steps); "failed"; "finished".
"""

from __future__ import annotations

import pathlib
from typing import Any

from alexnet_jax import provenance, run_files

SCHEMA = 1
REHEARSAL = "a rehearsal with tiny networks: no number in here measures anything"
ENDED = "the process ended with exit code"  # how the error of a step begins that has ended its process
Record = dict[str, Any]


def path(out: pathlib.Path, part: str) -> pathlib.Path:
    return out / f"{part}.json"


def read(out: pathlib.Path, part: str) -> Record:
    """What is there of the part; {} if there is nothing that can be read."""
    found = run_files.read_json(path(out, part)) or {}
    fits = found.get("schema") == SCHEMA and found.get("part") == part and isinstance(found.get("steps"), dict)
    return found if fits else {}


def write(out: pathlib.Path, record: Record) -> None:
    """In one move, so that no interruption leaves half of it."""
    run_files.write_json(path(out, record["part"]), record)


def revision() -> str:
    """Of the project: '0123456789ab', with '+' where there are uncommitted changes; '' if it can't be told."""
    git = provenance.git_state()
    return git["revision"][:12] + "+" * bool(git["dirty"]) if "revision" in git else ""


def head(record: Record) -> Record:
    """What `command.heading` shows of a part: as the head of another benchmark's result."""
    revisions = {step["revision"] for step in record["steps"].values() if step.get("revision")}
    return {"device": record.get("device", {}), "versions": record.get("versions", {}), "command": record["command"],
            "started": record["begun"][-1], "quick": record["quick"],
            "git": {"revision": next(iter(revisions)) if len(revisions) == 1 else "several" if revisions else "?",
                    "dirty": any(text.endswith("+") for text in revisions)}}


def is_done(step: Record) -> bool:
    return "error" not in step and not step.get("partial")


def wrong(record: Record) -> list[str]:
    """The steps that found something wrong."""
    return [name for name, step in record.get("steps", {}).items() if step.get("right") is False]


def failed(record: Record) -> list[str]:
    """The steps that ended with an error."""
    return [name for name, step in record.get("steps", {}).items() if "error" in step]
