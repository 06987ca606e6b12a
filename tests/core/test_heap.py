"""Memory that was freed goes back to the system, also when threads made it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Large arrays whose ends lie beside small ones that stay: what a page reads, and what a cache keeps of it.
CHURN = """
import ctypes, sys, threading
import numpy as np
from pathlib import Path
from core import heap

if "steady" in sys.argv:
    heap.give_back()
kept = []

def reads():
    for _ in range(40):
        arrays = []
        for _ in range(12):
            arrays.append(np.ones(100_000))
            kept.append(np.ones(1_000))

for _ in range(3):
    threads = [threading.Thread(target=reads) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    del kept[::2]
print(next(line.split()[1] for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if "Pss_Anon" in line))
"""


def held_kib(*given: str) -> int:
    found = subprocess.run([sys.executable, "-c", CHURN, *given], capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_what_threads_have_freed_is_not_held():
    assert held_kib("steady") < 0.75 * held_kib()
