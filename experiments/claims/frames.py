"""Comparisons as a tidy table for notebooks, one row each."""

from __future__ import annotations

import pathlib

import pandas as pd

from experiments.analysis import compare
from experiments.analysis.workdirs import default_views, read_sweep
from experiments.claims.summary import of_workdir

COLUMNS = ("arm", "against", "quantity", "views", "seeds", "mean", "low", "high", "sd", "p_value", "p_holm", "paper",
           "log", "verdict")


def comparisons(workdir: pathlib.Path) -> pd.DataFrame:
    """Every arm of a sweep minus its reference, paired by seed, in points: COLUMNS.

    One row per arm and quantity: `error` (top-1, with the paper's and the log's difference, the verdict and Holm's p)
    and, if runs have an error on training images, `gap` and `fit` (`experiments.analysis.compare`). A row needs a pair
    of finished runs; the folder of a single run has none.

    Raises:
      ConfigError, WorkdirError: as `workdirs.read_sweep`.
    """
    workdir = pathlib.Path(workdir)
    rows: list[dict] = []
    if (workdir / "plan.json").exists() or not (workdir / "run.json").exists():
        sweep = read_sweep(workdir)
        views = default_views(sweep.runs.values())
        rows_by_arm = {arm["name"]: arm for arm in of_workdir(workdir, views, sweep)["arms"]}
        for quantity in ("error", "gap", "fit"):
            for name, c in compare.of_sweep(sweep, quantity, views).items():
                if not c.pairs or c.quantity != quantity:  # not `running`, which isn't measured in test mode
                    continue
                e, about = c.difference, rows_by_arm[name] if quantity == "error" else {}
                claimed = about.get("paper") or {}
                rows.append({
                    "arm": name, "against": c.reference.name, "quantity": quantity, "views": c.arm.views or
                    (c.views if quantity == "error" else "centre"), "seeds": len(c.pairs), "mean": e.mean,
                    "low": e.low, "high": e.high, "sd": e.sd, "p_value": e.p_value,
                    "p_holm": (about.get("difference") or {}).get("p_holm"),
                    **{who: (claimed.get(who) or {}).get("top1") for who in ("paper", "log")},
                    "verdict": (about.get("verdict") or {}).get("word")})
    return pd.DataFrame(rows, columns=list(COLUMNS))
