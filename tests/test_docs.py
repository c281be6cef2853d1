"""docs/ says what the code says, and names all there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from gradscope.catalogue import remedies, rules
from gradscope.cli import commands
from tests.docs import DOCS, api, pages
from tests.docs.commands import parsers
from tests.docs.prose import markdown

ROOT = DOCS.parent
PAGES = pages()


def test_the_pages_are_those_that_the_code_makes() -> None:
    """Nothing is missing, nothing is left over, nothing differs. `make docs` mends it."""
    written = {str(file.relative_to(DOCS)): file.read_text(encoding="utf-8") for file in DOCS.rglob("*.md")}
    assert sorted(written) == sorted(PAGES)
    assert [path for path, text in PAGES.items() if written[path] != text] == []


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_has_its_page_with_every_option(name: str) -> None:
    """And the README names the command."""
    page = PAGES[f"cli/{name}.md"]
    for action in parsers()[name]._actions:
        for option in action.option_strings:
            assert option in ("-h", "--help") or re.search(rf"`{re.escape(option)}[ `]", page), option
    assert f"gradscope {name}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_rule_and_every_remedy_has_its_page() -> None:
    """With every threshold, and every cause that a remedy works against."""
    for name, rule in rules().items():
        assert all(f"`{threshold}`" in PAGES[f"rules/{name}.md"] for threshold in rule.thresholds())
    for name, remedy in remedies().items():
        assert all(f"`{cause}`" in PAGES[f"remedies/{name}.md"] for cause in remedy.cures)


@pytest.mark.parametrize("module", api.MODULES)
def test_every_public_name_is_explained(module: str) -> None:
    """Each has a heading and a text of its own."""
    page = PAGES[f"api/{module}.md"]
    for name in api.public(module):
        _, _, below = page.partition(f"\n## {name}\n")
        assert below.split("\n## ")[0].strip(), name


@pytest.mark.parametrize("path", sorted(PAGES))
def test_a_page_is_good_markdown(path: str) -> None:
    """Every row of a table has as many cells as its head, and links lead somewhere."""
    tokens = MarkdownIt("commonmark").enable("table").parse(PAGES[path])
    assert PAGES[path].count("\n| --- ") + PAGES[path].startswith("| --- ") == sum(
        token.type == "table_open" for token in tokens
    )
    for block in re.findall(r"(?:^\|.*\n)+", PAGES[path], re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(cells) == 1, block
    for target in re.findall(r"\]\(([^)#]+)\)", PAGES[path]):
        if "://" not in target:
            assert (DOCS / Path(path).parent / target).exists(), target


def test_a_docstring_becomes_markdown() -> None:
    """Paragraphs flow, code stays, markup that was not meant is no markup."""
    text = "Why it hurts: a\nline <b> and *x*, `a*b`.\n\n    code = 1\n\nTitle\n=====\n\nEnd."
    assert markdown(text) == (
        "**Why it hurts:** a line \\<b\\> and \\*x\\*, `a*b`.\n\n```text\ncode = 1\n```\n\n### Title\n\nEnd."
    )
