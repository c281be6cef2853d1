"""Takes a picture of every page, in both themes and three widths, and the README's three.

make screenshots
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.dashboard.conftest import CHROMIUM, EXAMPLES, FLAGS

ROOT = Path(__file__).resolve().parents[2]
ALL = ROOT / "build" / "screenshots"
PICTURES = ROOT / "assets" / "pictures"  # the README's
WIDTHS = (800, 1440, 2560)
PAGES = {
    "runs": "",
    "overview": "run/vanishing_gradient",
    "overview-healthy": "run/healthy",
    "overview-broken": "run/squared_error",
    "overview-finding": "run/vanishing_gradient?finding=F1",
    "overview-layer": "run/vanishing_gradient?layer=4&step=3",
    "finding": "run/vanishing_gradient/finding/F1",
    "layers": "run/vanishing_gradient/layers",
    "layer": "run/exploding_gradient/layers?layer=4&step=3",
    "timeline": "run/exploding_gradient/timeline?brush=5-60",
    "checks": "run/vanishing_gradient/checks",
    "about": "run/vanishing_gradient/about",
    "compare": "compare?a=vanishing_gradient&b=healthy",
    "learn": "learn",
    "lesson": "learn/adam",
}
OF_THE_README = ("overview", "finding", "layer")


def take(browser: Browser, url: str, target: Path, width: int, scheme: str, whole: bool = True) -> None:
    """Opens a page and saves what it shows."""
    context = browser.new_context(
        viewport={"width": width, "height": 1000},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    page: Page = context.new_page()
    page.goto(url)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(600)
    page.screenshot(path=target, full_page=whole)
    context.close()


def main() -> None:
    """Serves the packaged runs of the demos, and takes the pictures."""
    ALL.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        runs = Path(folder) / "runs"
        for example in EXAMPLES.glob("*.zip"):
            with zipfile.ZipFile(example) as archive:
                archive.extractall(runs)
        command = [sys.executable, "-m", "gradscope", "dashboard", "runs", "--port", "0"]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, path in PAGES.items():
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            for width in WIDTHS:
                for scheme in ("light", "dark"):
                    whole = "?" not in path or "layers" in path or "brush" in path
                    take(browser, url + path, ALL / f"{name}-{width}-{scheme}.png", width, scheme, whole)
            if name in OF_THE_README:
                take(browser, url + path, PICTURES / f"{name}.png", 1440, "light", whole=name != "layer")
            print(name)
        browser.close()
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
