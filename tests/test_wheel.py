"""The wheel: what a user installs holds everything, and works without the checkout."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import SaveRun

CHECKOUT = Path(__file__).resolve().parent.parent


def _run(*command: str | Path, folder: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, CHECKOUT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment that has the wheel, our dependencies, and no way to the checkout."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=sys.platform != "win32")
    programs = Path(sysconfig.get_path("scripts", "venv", {"base": str(home)}))
    python = programs / Path(sys.executable).name
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    packages = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # A folder named in a .pth file is searched, but .pth files in it are not read: so not the one of the checkout.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert _run(python, "-c", "import gradscope; print(gradscope.__file__)", folder=home).startswith(str(packages))
    return programs


def test_the_wheel_holds_everything_and_nothing_else(wheel: Path) -> None:
    """Every module, the mark that we are typed, the page's assets and the demos are in it; tests are not."""
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = _run("git", "ls-files", "gradscope", "assets", "demos", folder=CHECKOUT).splitlines()
    expected = {
        name if name.startswith("gradscope/") else f"gradscope/{name}"
        for name in tracked
        if not name.startswith("assets/pictures/")
    }
    assert {"gradscope/py.typed", "gradscope/assets/gradscope.css"} <= inside
    assert expected - inside == set()
    assert [name for name in inside if not name.startswith("gradscope/") or "__pycache__" in name] == []


def test_the_installed_command_says_its_version(installed: Path, tmp_path: Path) -> None:
    """The console script of the wheel works."""
    from gradscope import __version__

    assert _run(installed / "gradscope", "--version", folder=tmp_path) == f"gradscope {__version__}\n"


def test_the_installed_command_reads_a_run(installed: Path, save_run: SaveRun, tmp_path: Path) -> None:
    """A report works from the wheel."""
    assert "Run by-hand" in _run(installed / "gradscope", "report", save_run(), folder=tmp_path)


def test_the_installed_dashboard_serves_page_and_assets(installed: Path, save_run: SaveRun, tmp_path: Path) -> None:
    """The dashboard of the wheel gives its page and every asset that the page names."""
    command = [installed / "gradscope", "dashboard", save_run(), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            page = _fetch(address).decode()
            assets = re.findall(r'(?:href|src)="(/?assets/[^"]+)"', page)
            assert any(".css" in asset for asset in assets)
            for asset in assets:
                assert len(_fetch(f"{address.rstrip('/')}/{asset.lstrip('/')}")) > 0
        finally:
            process.terminate()


def _fetch(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:
        content: bytes = answer.read()
    return content


def test_the_installed_command_knows_the_demos(installed: Path, tmp_path: Path) -> None:
    """The demos come with the wheel."""
    demos = sorted(file.stem for file in (CHECKOUT / "demos").glob("[!_]*.py"))
    said = " ".join(_run(installed / "gradscope", "demo", "--help", folder=tmp_path).split())
    assert f"{', '.join(demos)} (default: vanishing_gradient)" in said
