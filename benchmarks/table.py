"""Writes the tables of benchmarks/RESULTS.md from benchmarks/results/*.json: `python -m benchmarks.table`.

Each table is between `<!-- begin NAME -->` and `<!-- end NAME -->`, for a file results/NAME.json; the rest of
RESULTS.md is written by hand and kept. A file without a place is an error; a place without a file says so.
"""

from __future__ import annotations

import importlib
import pathlib
import re
from collections.abc import Mapping

from alexnet_jax import commands, run_files
from alexnet_jax.errors import UserError
from benchmarks import command
from benchmarks.accelerator import record as records

_HERE = pathlib.Path(__file__).resolve().parent
_PLACE = re.compile(r"(<!-- begin ([\w-]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def render(result: command.Result) -> str:
    """The heading and tables of a result, or of a part's record (benchmarks.accelerator.record).

    Raises:
      UserError: it has another schema, or is from --quick.
    """
    if result.get("schema") != command.SCHEMA or not {"benchmark", "part"} & result.keys():
        raise UserError("not a benchmark's result of this version; run the benchmark again")
    if result.get("quick"):
        raise UserError("a result of --quick, which measures nothing")
    module = importlib.import_module("benchmarks." + (result.get("benchmark") or f"accelerator.{result['part']}"))
    head = records.head(result) if "part" in result else result
    return "\n".join([command.heading(head), "", *module.table(result)])


def fill(text: str, results: Mapping[str, command.Result]) -> str:
    """RESULTS.md with every place filled. Raises UserError for a result without a place."""
    places = {found[2] for found in _PLACE.finditer(text)}
    homeless = sorted(set(results) - places)
    if homeless:
        raise UserError(f"results/{homeless[0]}.json: RESULTS.md has no <!-- begin {homeless[0]} --> … "
                        f"<!-- end {homeless[0]} -->; add the two lines where its table is wanted")

    def put(found: re.Match) -> str:
        name = found[2]
        try:
            body = render(results[name]) if name in results else "Not measured yet."
        except UserError as error:
            raise UserError(f"results/{name}.json: {error}") from error
        return f"{found[1]}{body}\n{found[3]}"

    return _PLACE.sub(put, text)


def main() -> None:
    commands.Parser("benchmarks.table", __doc__).parse_args()
    results = {}
    for path in sorted((_HERE / "results").glob("*.json")):
        found = run_files.read_json(path)
        if found is None:
            raise UserError(f"{path}: damaged; delete it or run its benchmark again")
        results[path.stem] = found
    target = _HERE / "RESULTS.md"
    run_files.write_text(target, fill(target.read_text(encoding="utf-8"), results))
    print(f"{target}: {len(results)} tables")


if __name__ == "__main__":
    commands.run_main(main)
