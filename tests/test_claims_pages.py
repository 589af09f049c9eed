"""The committed table, CLAIMS.md and the pages with parts of it match the recorded results."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest

from experiments.analysis import workdirs
from experiments.claims import __main__ as command
from experiments.claims import summary, table
from experiments.claims.record import of_arm
from experiments.claims.regimes import FIVE, TINY
from experiments.claims.registry import CLAIMS
from experiments.claims.rows import rows

ROOT = pathlib.Path(command.__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found():
    """The rows of what is recorded."""
    return rows(ROOT / "experiments" / "results")[0]


def test_recorded_reports_and_the_recorded_table_agree():
    """CLAIMS.json against what a report says of the same records, the family of two sweeps among them."""
    table_rows = json.loads((ROOT / "experiments" / "CLAIMS.json").read_text())["rows"]
    compared = 0
    for name in ("claims_cifar10", "claims_tiny_imagenet", "paper_like_30_seeds", "conv_local_quarter"):
        folder = ROOT / "experiments" / "results" / name
        sweep = workdirs.read_sweep(folder)
        for arm in summary.of_workdir(folder, sweep=sweep)["arms"]:
            said = of_arm(CLAIMS, arm["ablation"], arm["name"], sweep.local)
            own = [row for row in table_rows if said and row["source"] == name and row["id"] == said.claim.id and
                   row["quantity"] == "top-1 error" and said.measure.part in row["part"]]
            if arm["verdict"] is not None and own:
                (row,) = own
                facts = ("inside", "contains_paper", "why", "by_sign")
                assert (row["verdict"], row["p_value"], row["p_holm"], *(row[fact] for fact in facts)) == (
                    arm["verdict"]["word"], arm["difference"]["top1"]["p_value"], arm["difference"]["p_holm"],
                    *(arm["verdict"][fact] for fact in facts))
                compared += 1
    assert compared > 25


def test_the_recorded_table_is_that_of_the_recorded_results():
    done = subprocess.run([sys.executable, "-m", "experiments.claims"], capture_output=True, text=True, check=False,
                          cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "experiments" / "CLAIMS.md").read_text(), "run `make claims`"


def test_the_pages_have_what_is_measured_and_of_several_regimes_the_claims_own(found):
    results = ROOT / "experiments" / "results"
    for page, name, content in ((page, *one) for page, tables in command.pages(found, results).items()
                                for one in tables.items()):
        assert f"<!-- begin {name} -->\n{content}<!-- end {name} -->" in page.read_text(), "run `make claims`"
    front = [row for row in found if row.kind != "log" and not row.in_kind and row.where[1] in "3457"]
    assert [line.split("**")[1] for line in table.front(found).splitlines()[2:]] == [
        name for name, *_ in dict.fromkeys((row.id, row.part, row.quantity) for row in front)]
    assert table.front(found).count("| – | not measured |") == len([row for row in front if not row.measured]) > 0
    assert "n = 3; 130 of 520 epochs" in table.front(found)  # where the regime is another than the page says of most
    one = next(row for row in found if row.n and row.verdict == "reproduced")
    more = dataclasses.replace(one, n=one.n + 1, measured="of more seeds")
    assert table.brief([one, more]) == table.brief([one])
    beside = dataclasses.replace(one, part="in kind", verdict="not comparable")
    assert table.brief([beside, one]) == table.brief([one])
    assert "not comparable" in table.brief([beside])


def test_regimes_stand_side_by_side_where_a_short_schedule_measured_the_claim(found):
    head, _, *body = [line.strip("| ").split(" | ") for line in table.by_regime(found).splitlines()]
    lines = {cells[0].replace("**", ""): cells for cells in body}
    short = [row for row in found if row.regime in (FIVE.name, TINY.name) and row.measured and not row.in_kind]
    assert set(lines) == {f"{row.id}{row.part and ' '}{row.part}" for row in short}
    for row in short:
        cell = lines[f"{row.id}{row.part and ' '}{row.part}"][head.index(row.regime)]
        assert row.measured.partition(";")[0] in cell
        assert row.verdict in cell
    assert lines["log-132"][1] == "–"
    assert "n = 30: reproduced here" in lines["dropout without − with"][1]
    assert "one epoch on 40,000 images" in lines["bias-init biases 0 − 1"][1]
