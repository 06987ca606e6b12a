"""The README's pictures, from the demo: ``make screenshots``. Needs Chromium."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.daemon import ROOT
from tests.e2e.dashboard import chromium, serving, visit

IMAGES = Path(__file__).parent / "images"
HISTORY_SECONDS = 100  # laying down the simulated past, with its accounts, takes half of it
WIDTH = 1440  # px
PICTURES = (("overview", "?range=24h", 1590), ("tokens", "tokens?range=7d", 1405))
"""Name of the file, address of the page, and how much of it (px from the top)."""


def main() -> None:
    """Run the demo's daemon and dashboard in a scratch folder and photograph its pages."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "demo.toml"
        config.write_text((ROOT / "demo.toml").read_text().replace("var/demo-fleet.db", f"{folder}/demo.db"))
        daemon = subprocess.Popen([sys.executable, "-m", "collectors", "run", "--config", str(config)], cwd=ROOT)
        try:
            time.sleep(HISTORY_SECONDS)
            with chromium() as browser, serving(config) as url:
                for name, address, height in PICTURES:
                    with visit(browser, f"{url}/{address}") as seen:
                        seen.page.set_viewport_size({"width": WIDTH, "height": height})
                        seen.page.wait_for_timeout(2_000)
                        seen.page.screenshot(path=IMAGES / f"{name}.png")
        finally:
            daemon.terminate()
            daemon.wait()


if __name__ == "__main__":
    main()
