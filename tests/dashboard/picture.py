"""Makes the README's picture: the page of a demo's sick run in a real browser.

make picture
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from gradscope.cli.demo import DEFAULT_DEMO, demos
from tests.dashboard.conftest import CHROMIUM, FLAGS

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "assets" / "pictures" / "overview.png"


def main() -> None:
    """Runs the demo's script, opens its page and saves what it shows."""
    gradscope = [sys.executable, "-m", "gradscope"]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        subprocess.run([*gradscope, "run", str(demos()[DEFAULT_DEMO])], cwd=folder, check=True)
        command = [*gradscope, "dashboard", "--port", "0"]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        url = next(word for line in server.stdout for word in line.split() if word.startswith("http://"))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 1000}, reduced_motion="reduce")
        page.goto(url)
        page.wait_for_selector(".map-graph .heatmaplayer image")
        page.screenshot(path=PICTURE, full_page=True)
        browser.close()
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
