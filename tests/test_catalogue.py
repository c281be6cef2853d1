"""How rules and remedies are found: by importing their package, two with one id refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from gradscope.catalogue import _collect, remedies, rules
from gradscope.errors import CatalogueError
from gradscope.remedies import Remedy
from gradscope.rules import Rule

_numbers = itertools.count()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package of rules that can be imported."""
    folder = tmp_path / f"made_up_rules_{next(_numbers)}"
    folder.mkdir()
    (folder / "__init__.py").write_text("class Rule:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def add(package: Path, file: str, identity: str | None, name: str = "Made") -> None:
    """Writes a rule into a file of the package."""
    body = "    pass\n" if identity is None else f"    id = {identity!r}\n"
    with (package / file).open("a") as stream:
        stream.write(f"from {package.name} import Rule\nclass {name}(Rule):\n{body}")


def test_a_new_file_is_a_new_rule(package: Path) -> None:
    """Adding a rule is adding a file; they come in order of their ids, not of their files."""
    add(package, "a.py", "second")
    add(package, "b.py", "first")
    found = _collect(package.name, "Rule")
    assert list(found) == ["first", "second"]
    assert type(found["first"]).__module__ == f"{package.name}.b"


def test_two_rules_with_one_id_are_refused(package: Path) -> None:
    """An id stands for one thing: the error names both files and what to do."""
    add(package, "a.py", "same")
    add(package, "b.py", "same")
    with pytest.raises(CatalogueError) as error:
        _collect(package.name, "Rule")
    assert str(error.value) == (
        f"{package.name}.a and {package.name}.b both have the id 'same'. "
        "An id stands for one thing for ever; give the newer one another."
    )


def test_two_in_one_file_are_refused_too(package: Path) -> None:
    """It does not matter where the second one is."""
    add(package, "a.py", "same")
    add(package, "a.py", "same", "Other")
    with pytest.raises(CatalogueError, match="both have the id 'same'"):
        _collect(package.name, "Rule")


def test_what_is_only_shared_is_no_rule(package: Path) -> None:
    """A base class without an id, and a rule that another file imports, do not count."""
    add(package, "a.py", None)
    add(package, "b.py", "one")
    (package / "c.py").write_text(f"from {package.name}.b import Made\n")
    assert list(_collect(package.name, "Rule")) == ["one"]


def test_the_catalogue_holds_instances_by_id() -> None:
    """Rules and remedies are found by id, in order, and always the same ones."""
    assert rules() is rules()
    for found, base in ((rules(), Rule), (remedies(), Remedy)):
        assert list(found) == sorted(found)
        assert all(isinstance(entry, base) and entry.id == identity for identity, entry in found.items())
    assert {"vanishing-gradient", "exploding-gradient", "non-finite", "untrained-parameter"} <= set(rules())
    assert {"gradient-clipping", "initialization", "activation-swap", "skip-connection"} <= set(remedies())
