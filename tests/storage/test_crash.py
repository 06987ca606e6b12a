from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COURSES, KILLS = 4, 50


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(COURSES))
def test_two_hundred_kills_while_sealing_and_keeping_order_cost_nothing(tmp_path: Path, seed: int):
    command = [sys.executable, "-m", "tests.storage.crashing", str(tmp_path / "vatio.db"), str(KILLS), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{KILLS} kills" in done.stdout
