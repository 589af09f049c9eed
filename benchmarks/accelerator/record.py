"""FOLDER/PART.json: a part's results so far. Doesn't import JAX.

`{"schema", "part", "what", "quick", "note" (for a rehearsal), "status", "error" (why it failed), "command", "begun":
[UTC, …] (one per process), "device", "versions" (from machine.json), "steps": {name: result}, "under_way" (a step's
name)}`. A step's entry is its result, with "seconds" and "revision" (the project's, with "+" for uncommitted changes).
"partial" is true if it was cut off; "error" says why it failed, in the command that began at "attempt"; "right" is
false if a check failed.

`status`: "under way" (or killed); "cut off" (no time for all steps); "failed"; "finished".
"""

from __future__ import annotations

import pathlib
from typing import Any

from alexnet_jax import provenance, run_files

SCHEMA = 1
REHEARSAL = "a rehearsal with tiny networks: no number in here measures anything"
ENDED = "the process ended with exit code"  # how the error of a step that killed its process begins
Record = dict[str, Any]


def path(out: pathlib.Path, part: str) -> pathlib.Path:
    return out / f"{part}.json"


def read(out: pathlib.Path, part: str) -> Record:
    """The part's record; {} if it is missing or unreadable."""
    found = run_files.read_json(path(out, part)) or {}
    fits = found.get("schema") == SCHEMA and found.get("part") == part and isinstance(found.get("steps"), dict)
    return found if fits else {}


def write(out: pathlib.Path, record: Record) -> None:
    """Writes the record atomically."""
    run_files.write_json(path(out, record["part"]), record)


def revision() -> str:
    """The project's revision: '0123456789ab', with '+' for uncommitted changes; '' if unknown."""
    git = provenance.git_state()
    return git["revision"][:12] + "+" * bool(git["dirty"]) if "revision" in git else ""


def head(record: Record) -> Record:
    """A part's header for `command.heading`, like that of another benchmark's result."""
    revisions = {step["revision"] for step in record["steps"].values() if step.get("revision")}
    return {"device": record.get("device", {}), "versions": record.get("versions", {}), "command": record["command"],
            "started": record["begun"][-1], "quick": record["quick"],
            "git": {"revision": next(iter(revisions)) if len(revisions) == 1 else "several" if revisions else "?",
                    "dirty": any(text.endswith("+") for text in revisions)}}


def is_done(step: Record) -> bool:
    return "error" not in step and not step.get("partial")


def wrong(record: Record) -> list[str]:
    """The steps whose checks failed."""
    return [name for name, step in record.get("steps", {}).items() if step.get("right") is False]


def failed(record: Record) -> list[str]:
    """The steps that ended with an error."""
    return [name for name, step in record.get("steps", {}).items() if "error" in step]
