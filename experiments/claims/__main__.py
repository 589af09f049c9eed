"""The table of the paper's claims and the measurements here.

    python -m experiments.claims                  # prints the table
    python -m experiments.claims --write          # and writes experiments/CLAIMS.md, .csv and .json, the pictures in
                                                  # experiments/pictures, and the tables of README.md and
                                                  # docs/results.md (`make claims`)
    python -m experiments.claims --brief          # prints the measured claims, one line each

Everything comes from the results recorded under experiments/results: sweeps of experiments.run and the claim files of
other tools. An unreadable record is an error, and nothing is written. A claim without a measurement has a row too, with
the command that would make one and its cost. The same results give the same bytes.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from alexnet_jax import commands, errors, run_files
from experiments.analysis import repeats
from experiments.claims import pictures, table
from experiments.claims.row import Row
from experiments.claims.rows import parts_left, rows

HERE = pathlib.Path(__file__).resolve().parents[1]


def pages(all_rows: Sequence[Row], results: pathlib.Path) -> dict[pathlib.Path, dict[str, str]]:
    """{page: {mark: the table between its begin and its end}}."""
    return {HERE.parent / "README.md": {"claims": table.front(all_rows)},
            HERE.parent / "docs" / "results.md": {"claims": table.brief(all_rows), "regimes": table.by_regime(all_rows),
                                                  "dropout by images": pictures.dropout_by_images(results)}}


def _shown(folder: pathlib.Path) -> str:
    """The path as in a command: relative to the project's folder if it is inside."""
    absolute = folder.resolve()
    return str(absolute.relative_to(HERE.parent) if absolute.is_relative_to(HERE.parent) else folder)


def main(argv: Sequence[str] | None = None) -> None:
    parser = commands.Parser("experiments.claims", __doc__)
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results", help="the folder of recorded results")
    parser.add_argument("--write", action="store_true", help="write CLAIMS.md, CLAIMS.csv, CLAIMS.json, the "
                        "pictures and the tables of README.md and docs/results.md too")
    parser.add_argument("--brief", action="store_true", help="print only what is measured, a line each")
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="the folder that they are written to")
    options = parser.parse_args(argv)
    if not options.results.is_dir():
        raise errors.ConfigError(f"--results={options.results}: no such folder; recorded results are in "
                                 "experiments/results")
    all_rows, troubles = rows(options.results)
    twice = {_shown(folder): repeats.text(repeats.read(folder))
             for folder in sorted(path.parent for path in options.results.glob(f"*/{repeats.FILE}"))}
    text = table.markdown(all_rows, troubles, twice, parts_left(options.results))
    if not troubles and (by_images := pictures.dropout_by_images(options.results)):
        text += ("\n## The effect of dropout by number of training images\n\nPart C of docs/evidence-plan.md: "
                 "differences in points, paired by seed, with 95% intervals; descriptive. Errors by ten views.\n\n"
                 + by_images)
    if options.write and not troubles:
        options.out.mkdir(parents=True, exist_ok=True)
        run_files.write_json(options.out / "CLAIMS.json", table.to_json(all_rows, troubles))
        run_files.write_text(options.out / "CLAIMS.csv", table.to_csv(all_rows))
        run_files.write_text(options.out / "CLAIMS.md", text)
        pictures.write(options.results, options.out)
        if options.out == HERE:
            for page, tables in pages(all_rows, options.results).items():
                for name, content in tables.items():
                    run_files.write_text(page, table.fill(page.read_text(encoding="utf-8"), content, name))
    print(table.brief(all_rows) if options.brief else text, end="", flush=True)
    if troubles:
        more = f" (and {len(troubles) - 1} more)" if len(troubles) > 1 else ""
        raise errors.WorkdirError(f"{options.results}: {troubles[0]}{more}; record it again or delete it"
                                  + (": nothing is written" if options.write else ""))


if __name__ == "__main__":
    commands.run_main(main)
