"""The README's picture, from the demo: ``make screenshots``. Needs Chromium."""

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


def main() -> None:
    """Run the demo's daemon and dashboard in a scratch folder and photograph the overview."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "demo.toml"
        config.write_text((ROOT / "demo.toml").read_text().replace("var/demo-fleet.db", f"{folder}/demo.db"))
        daemon = subprocess.Popen([sys.executable, "-m", "collectors", "run", "--config", str(config)], cwd=ROOT)
        try:
            time.sleep(HISTORY_SECONDS)
            with chromium() as browser, serving(config) as url, visit(browser, url) as seen:
                seen.page.set_viewport_size({"width": 1280, "height": 1150})
                seen.page.wait_for_timeout(2_000)
                seen.page.screenshot(path=IMAGES / "overview.png")
        finally:
            daemon.terminate()
            daemon.wait()


if __name__ == "__main__":
    main()
