"""tests/storm.py for one round of each kind; `python tests/storm.py --minutes=60` takes longer."""

import sys

import pytest
import storm


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_a_short_storm_loses_nothing(tmp_path, capfd):
    code = storm.main(["--minutes=0", "--seed=1", f"--folder={tmp_path / 'storm'}"])
    said = capfd.readouterr().out
    assert code == 0, said
    assert "nothing lost" in said.splitlines()[-1]
