"""The errors that are raised on purpose."""

from __future__ import annotations

import inspect

import pytest

from gradscope import errors


def _tree_in_the_docstring() -> dict[str, str]:
    """Each error's name with its parent's, read from the indentation of the drawing."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        text = line.lstrip(" │├└─")
        name = text.split(" ")[0]
        if not line.startswith("    ") or not name:
            continue
        depth = len(line) - len(text)
        above = [(at, parent) for at, parent in above if at < depth]
        parents[name] = above[-1][1] if above else ""
        above.append((depth, name))
    return parents


def _classes() -> dict[str, type[errors.GradScopeError]]:
    return {
        name: each
        for name, each in vars(errors).items()
        if inspect.isclass(each) and issubclass(each, errors.GradScopeError)
    }


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    """Every error has its place in the drawing, under the error that it is a kind of."""
    drawn = _tree_in_the_docstring()
    actual = {name: each.__mro__[1].__name__ for name, each in _classes().items()}
    assert drawn == {**actual, "GradScopeError": ""}


@pytest.mark.parametrize("name", _classes())
def test_an_error_says_in_a_sentence_what_it_means(name: str) -> None:
    """Every error has a docstring that is a sentence."""
    assert (_classes()[name].__doc__ or "").endswith(".")


@pytest.mark.parametrize("name", _classes())
def test_an_errors_text_is_what_was_said(name: str) -> None:
    """`str` gives the text alone, also for those that are a KeyError or an OSError too."""
    assert str(_classes()[name]("no rule is called 'x'")) == "no rule is called 'x'"


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("WatchError", ValueError),
        ("RunNotFound", FileNotFoundError),
        ("RunExists", FileExistsError),
        ("RunNotWritable", PermissionError),
        ("UnknownId", KeyError),
        ("ReportNotWritable", OSError),
        ("MissingPackage", ImportError),
    ],
)
def test_who_catches_the_builtin_error_catches_ours(name: str, builtin: type[Exception]) -> None:
    """An error that Python has a name for is of that kind as well."""
    assert issubclass(_classes()[name], builtin)


def test_every_error_ends_the_command_line_with_a_usage_code() -> None:
    """Errors raised on purpose are about what the user gave: exit code 2."""
    assert {each.exit_code for each in _classes().values()} == {2}
