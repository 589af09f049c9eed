"""The same seed gives the same curve on every mesh, also from a checkpoint written on another mesh."""

import emulated
import pytest

pytestmark = pytest.mark.timeout(600)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "steps", "rel", "update"), [
    ("float64", 15, 1e-9, None),
    # Each step from the state that one device had: what rounding changes grows from step to step, on some machines to
    # 2e-5 of the loss within twenty. `update`: weights and velocities, in parts of the step's update.
    ("float32", 10, 1e-6, 2**-14), ("bfloat16", 10, 2**-13, 2**-6),
])
def test_every_mesh_resumes_alike(tmp_path, precision, steps, rel, update):
    out = emulated.run("same_curve.py", 4, precision, steps, tmp_path, x64=precision == "float64")
    assert len(out["start"]["losses"]) == (141 if precision == "float64" else 201)
    assert out["start"]["rows"][-1][0] < 2.0, "it has not left chance (ln 10 = 2.303): the curves could be anything's"
    alone = out.pop("1x1")
    assert len(alone["losses"]) == steps
    assert len(set(alone["losses"][:steps])) == steps
    del out["start"]
    for name, other in out.items():
        assert other["losses"][:steps] == pytest.approx(alone["losses"][:steps], rel=rel), name
        if update is not None:
            assert max(other["updates"]) <= update, name
        if precision == "float64":
            for row, expected in zip(other["rows"], alone["rows"], strict=True):
                assert row == pytest.approx(expected, rel=rel), name
            for views in ("centre", "ten_view"):
                mine, theirs = (dict(x["result"]["eval"][views]) for x in (other, alone))
                assert mine.pop("loss") == pytest.approx(theirs.pop("loss"), rel=rel)
                assert mine == theirs
