"""The README says what is true: its code runs, its table is the catalogue, its picture is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gradscope
from gradscope.catalogue import rules
from gradscope.cli import main
from tests.docs.commands import parsers

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is shown runs as it stands; the five lines print a diagnosis."""
    monkeypatch.chdir(tmp_path)
    for block in blocks("python"):
        names: dict[str, object] = {}
        exec(compile(block, "README.md", "exec"), names)
        if scope := names.get("scope"):
            assert isinstance(scope, gradscope.Scope)
            scope.close()
    assert capsys.readouterr().out.startswith("healthy: ")


def test_the_commands_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every `gradscope` command line of the README is understood, every `make` target is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lines = [line.split("#")[0].split() for block in blocks("console") for line in block.splitlines()]
    assert {"make", "gradscope"} == {line[0] for line in lines}
    for program, command, *words in lines:
        if program == "make":
            assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE)
        else:
            with pytest.raises(SystemExit) as ended:
                main([command, "--help"])
            assert ended.value.code == 0
            options = {option for action in parsers()[command]._actions for option in action.option_strings}
            ours = words if command not in ("run", "trial") else []  # behind a script its own options follow
            assert {word for word in ours if word.startswith("-")} <= options
    capsys.readouterr()


def test_the_table_is_the_catalogue() -> None:
    """The table of rules lists every rule with its own summary."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", TEXT, flags=re.MULTILINE)
    assert dict(rows) == {name: rule.summary for name, rule in rules().items()}


def test_the_pictures_are_there() -> None:
    """Every picture that the README shows is a PNG in assets/."""
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", TEXT)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")
        assert picture.startswith("assets/")


def test_nobody_is_told_to_install_another_project() -> None:
    """The name `gradscope` belongs to somebody else on PyPI: no text of ours says to install it from there."""
    files = [
        *ROOT.glob("*.md"),
        *ROOT.glob("Makefile"),
        *(ROOT / "gradscope").rglob("*.py"),
        *(ROOT / "demos").glob("*.py"),
    ]
    for file in files:
        assert not re.search(r"pip install ['\"]?gradscope", file.read_text(encoding="utf-8")), file
