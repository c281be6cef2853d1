"""Runs on other filesystems: whatever fsspec can open is read, followed, listed, reported and shown."""

from __future__ import annotations

import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from gradscope.cli import main
from gradscope.dashboard.app import create_app
from gradscope.dashboard.runs import Runs
from gradscope.errors import MissingPackage, NotARun, RunNotFound
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import RunReader, RunWriter, list_runs, read_info, read_run, resolve_run
from tests.conftest import SaveRun
from tests.test_store_budget import INFO, SMALL, same, steps_of, write

MEMORY = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    yield
    MEMORY.store.clear()
    MEMORY.pseudo_dirs[:] = [""]


def upload(folder: Path, url: str) -> str:
    """Copies a run, as a job that synchronises its folder does: only what changed, and what is gone is deleted."""
    path = url.removeprefix("memory://")
    names = {file.name for file in folder.iterdir()}
    for file in folder.iterdir():
        MEMORY.pipe_file(f"{path}/{file.name}", file.read_bytes())
    for name in {Path(known).name for known in MEMORY.ls(path, detail=False)} - names:
        MEMORY.rm(f"{path}/{name}")
    return url


@pytest.mark.parametrize("form", ["file://{}", "local://{}", "memory://{}"])
def test_a_run_at_a_url_is_the_run(form: str, save_run: SaveRun) -> None:
    """Read at a URL, a run is what it is in its folder."""
    folder = save_run(by_hand({"a": [1e-9, float("nan")], "b": 0.5}, loss=2.3, steps=2), name="a run")
    url = form.format(folder)
    if url.startswith("memory"):
        upload(folder, url)
    here, there = read_run(folder), read_run(url)
    assert same(here.steps, there.steps)
    assert same(here.summaries, there.summaries)
    assert here.info == there.info == read_info(url)


def test_a_run_in_an_archive_is_read(save_run: SaveRun, tmp_path: Path) -> None:
    """A chain of filesystems works: a run inside a zip file."""
    folder = save_run()
    with zipfile.ZipFile(tmp_path / "runs.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"one/{file.name}")
    url = f"zip://one::{tmp_path}/runs.zip"
    assert same(read_run(folder).summaries, read_run(url).summaries)
    assert list_runs(f"zip://::{tmp_path}/runs.zip") == [url]


def test_a_growing_run_is_followed_at_its_url(tmp_path: Path) -> None:
    """A reader at a URL takes in what was added, thinned and merged since, and is told when nothing was."""
    writer = RunWriter(tmp_path / "run", INFO, budget=SMALL)
    url = "memory://runs/one"
    write(writer, 0)
    reader = RunReader(upload(tmp_path / "run", url))
    assert steps_of(reader.read()) == [0]
    assert reader.read() is reader.read()
    for step in range(1, 700):
        write(writer, step)
        if step % 40 == 0:
            upload(tmp_path / "run", url)
            run, fresh = reader.read(), read_run(tmp_path / "run")
            assert same(fresh.steps, run.steps)
            assert same(fresh.summaries, run.summaries)
    writer.close()


def test_only_what_is_new_is_transferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that grew, a reader at a URL asks for the new bytes only."""
    writer = RunWriter(tmp_path / "run", INFO)
    for step in range(50):
        write(writer, step)
    url = "memory://runs/one"
    reader = RunReader(upload(tmp_path / "run", url))
    reader.read()
    write(writer, 50)
    writer.close()
    upload(tmp_path / "run", url)
    transferred = []
    real = type(MEMORY).cat_file

    def count(self: object, path: str, start: int | None = None, end: int | None = None) -> bytes:
        content: bytes = real(self, path, start, end)
        transferred.append(len(content))
        return content

    monkeypatch.setattr(type(MEMORY), "cat_file", count)
    assert steps_of(reader.read())[-1] == 50
    assert sum(transferred) < 10_000 < (tmp_path / "run" / "summaries.arrow").stat().st_size


def test_latest_and_a_folder_of_runs_are_resolved_without_links(save_run: SaveRun) -> None:
    """At a URL, where there are no links, a folder of runs and `latest` in it stand for the newest run."""
    upload(save_run(name="old"), "memory://runs/old")
    time.sleep(0.01)
    upload(save_run(name="new"), "memory://runs/new")
    assert list_runs("memory://runs") == ["memory://runs/new", "memory://runs/old"]
    for typed in ("memory://runs", "memory://runs/", "memory://runs/latest", "memory://runs/new"):
        assert resolve_run(typed) == "memory://runs/new"
    assert resolve_run("memory://runs/old") == "memory://runs/old"


def test_latest_is_the_newest_where_no_link_could_be_made(save_run: SaveRun, tmp_path: Path) -> None:
    """On a disk that knows no links, `runs/latest` is the newest run, too."""
    save_run(name="old")
    new = save_run(name="new")
    assert resolve_run(tmp_path / "latest") == resolve_run(f"file://{tmp_path}/latest") == new


def test_what_is_not_at_a_url_is_said(save_run: SaveRun) -> None:
    """Nothing there, no run there, and no such filesystem: each is said as for a path, with the URL."""
    with pytest.raises(RunNotFound, match=r"no run at memory://none: there is no such folder"):
        read_run("memory://none")
    with pytest.raises(RunNotFound, match=r"no run at memory://none: there is no such folder"):
        resolve_run("memory://none")
    MEMORY.pipe_file("/notes/text", b"")
    with pytest.raises(NotARun, match=r"memory://notes is not a GradScope run: it has no run\.json"):
        read_run("memory://notes")
    with pytest.raises(NotARun, match="memory://notes is neither a GradScope run"):
        resolve_run("memory://notes")
    with pytest.raises(RunNotFound) as error:
        read_run("nowhere://run")
    assert str(error.value) == (
        "no run at nowhere://run: no filesystem is known for nowhere:// (Protocol not known: nowhere). Expected a path, "
        "or a URL that fsspec can open, such as file://, s3://, gs:// or memory://."
    )


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL whose filesystem needs a package that is not installed names the package."""
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(MissingPackage) as error:
        read_run("s3://bucket/run")
    assert str(error.value) == (
        "s3://bucket/run cannot be opened: Install s3fs to access S3. fsspec opens s3:// with it."
    )


def test_the_report_takes_a_url(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """`gradscope report URL` prints the report, and names the run as it was typed."""
    folder = save_run()
    upload(folder, "memory://runs/one")
    assert main(["report", "memory://runs/latest", "--color", "never"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "Next:  gradscope dashboard memory://runs/one"
    assert main(["report", f"file://{folder}", "--color", "never"]) == 0
    here = capsys.readouterr().out
    assert said.partition("Next:")[0] == here.partition("Next:")[0]
    assert main(["report", "memory://none"]) == 2
    assert capsys.readouterr().err.startswith("gradscope: no run at memory://none: there is no such folder.")


def test_the_dashboard_takes_a_url(save_run: SaveRun) -> None:
    """`gradscope dashboard URL` shows one run or a folder of runs, and sees them grow."""
    upload(save_run(name="old"), "memory://runs/old")
    runs = Runs("memory://runs/")
    assert runs.names() == ["old"]
    time.sleep(0.01)
    folder = save_run(name="new")
    upload(folder, "memory://runs/new")
    assert runs.names() == ["new", "old"]
    first = runs.get("new")
    assert runs.get("new") is first
    writer = RunWriter(folder, first.run.info, resume=True)
    write(writer, 100)
    writer.close()
    upload(folder, "memory://runs/new")
    assert runs.get("new").newest_step == 100
    assert Runs("memory://runs/old").names() == ["old"]
    assert create_app("memory://runs").layout is not None
    with pytest.raises(RunNotFound, match="no run at memory://none"):
        Runs("memory://none")


@pytest.mark.parametrize("name", ["../secret", "..", "", "old/../../secret", "old/", "memory://secret"])
def test_no_name_leads_out_of_a_folder_at_a_url(name: str, save_run: SaveRun) -> None:
    """Only listed names are opened, at a URL as on a disk."""
    upload(save_run(), "memory://secret")
    upload(save_run(name="old"), "memory://runs/old")
    with pytest.raises(RunNotFound, match="no run named"):
        Runs("memory://runs").get(name)


def test_a_server_that_does_not_answer_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens at this port: one line with the reason and what to check, no traceback."""
    pytest.importorskip("aiohttp")  # with which fsspec opens http://
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert main(["report", f"http://127.0.0.1:{port}/runs/a"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"gradscope: cannot read http://127.0.0.1:{port}/runs/a: ")
    assert said.endswith("Check the address, the network and who may read there.\n")
