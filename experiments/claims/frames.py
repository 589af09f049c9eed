"""Comparisons as a tidy table: a row each, for a notebook."""

from __future__ import annotations

import pathlib

import pandas as pd

from experiments.analysis import compare
from experiments.analysis.workdirs import default_views, read_sweep
from experiments.claims.summary import of_workdir

COLUMNS = ("arm", "against", "quantity", "views", "seeds", "mean", "low", "high", "sd", "p_value", "p_holm", "paper",
           "log", "verdict")


def comparisons(workdir: pathlib.Path) -> pd.DataFrame:
    """Every arm of a sweep less what it is compared with, paired by seed, in points: COLUMNS.

    A row an arm and quantity: `error` (top-1, with the paper's and the log's difference, the verdict and Holm's p), and
    where runs have an error on images learnt from `gap` and `fit` (`experiments.analysis.compare`). No row has fewer
    than one pair of finished runs; the folder of a single run has none.

    Raises:
      ConfigError, WorkdirError: as `workdirs.read_sweep`.
    """
    workdir = pathlib.Path(workdir)
    rows: list[dict] = []
    if (workdir / "plan.json").exists() or not (workdir / "run.json").exists():
        sweep = read_sweep(workdir)
        views = default_views(sweep.runs.values())
        said = {arm["name"]: arm for arm in of_workdir(workdir, views, sweep)["arms"]}
        for quantity in ("error", "gap", "fit"):
            for name, found in compare.of_sweep(sweep, quantity, views).items():
                if not found.pairs or found.quantity != quantity:  # nothing in test mode: `running` is another thing
                    continue
                e, about = found.difference, said[name] if quantity == "error" else {}
                claimed = about.get("paper") or {}
                rows.append({
                    "arm": name, "against": found.reference.name, "quantity": quantity, "views": found.arm.views or
                    (found.views if quantity == "error" else "centre"), "seeds": len(found.pairs), "mean": e.mean,
                    "low": e.low, "high": e.high, "sd": e.sd, "p_value": e.p_value,
                    "p_holm": (about.get("difference") or {}).get("p_holm"),
                    **{who: (claimed.get(who) or {}).get("top1") for who in ("paper", "log")},
                    "verdict": (about.get("verdict") or {}).get("word")})
    return pd.DataFrame(rows, columns=list(COLUMNS))
