"""The pytest plugin: a fixture `gradscope` whose diagnosis is part of the report of a test that failed.

    def test_trains(gradscope):
        gradscope.assert_healthy(model, batch, nn.CrossEntropyLoss())

pytest loads it in every environment that GradScope is installed in, so it imports nothing but pytest until a test uses it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from torch import nn

    from gradscope.records import Diagnosis, Severity
    from gradscope.scope import Scope
    from gradscope.testing.answers import ModelCheck

_SEVERITIES = ("note", "warning", "error")
_FAIL_ON = "gradscope_fail_on"


class GradScopeFixture:
    """What a test gets as `gradscope`: runs in the test's own folder, closed when it ends.

    Attributes:
        fail_on: the least severity that `assert_healthy` fails on, from `--gradscope-fail-on` or the ini file.
        folder: where the runs are.
    """

    def __init__(self, folder: Path, fail_on: Severity) -> None:
        self.folder = folder
        self.fail_on = fail_on
        self._scopes: list[Scope] = []

    def __repr__(self) -> str:
        return f"<gradscope, runs in {self.folder}>"

    def watch(self, model: nn.Module, optimizer: Any = None, criterion: Any = None, **options: Any) -> Scope:
        """`gradscope.watch` with every step recorded, into a folder of the test. Takes the same options."""
        from gradscope.scope import watch
        from gradscope.testing.watching import quietly

        options = {"every": 1, "run_dir": self._place(type(model).__name__), **options}
        with quietly():
            scope = watch(model, optimizer, criterion, **options)
        self._scopes.append(scope)
        return scope

    def assert_healthy(self, model: nn.Module, batch_or_loader: Any, *arguments: Any, **options: Any) -> Diagnosis:
        """`gradscope.testing.assert_healthy`, with its run in a folder of the test."""
        from gradscope.testing.healthy import assert_healthy

        __tracebackhide__ = True
        options = {"fail_on": self.fail_on, "run_dir": self._place(type(model).__name__), **options}
        return assert_healthy(model, batch_or_loader, *arguments, **options)

    def check_model(self, model: nn.Module, sample: Any, **options: Any) -> ModelCheck:
        """`gradscope.testing.check_model`."""
        from gradscope.testing.preflight import check_model

        return check_model(model, sample, **options)

    def close(self) -> None:
        """Ends all recording."""
        for scope in self._scopes:
            scope.close()

    def report(self) -> str:
        """What GradScope says of everything that the test has watched; "" when that is nothing."""
        from gradscope.testing.words import as_text

        said = []
        for scope in self._scopes:
            where = "" if scope.run_dir is None else f"\n\nThe run: gradscope dashboard {scope.run_dir}"
            said.append(f"{as_text(scope.diagnose())}{where}")
        return "\n\n".join(said)

    def _place(self, name: str) -> Path:
        """A folder that is not there yet."""
        self.folder.mkdir(exist_ok=True)
        word = "".join(char if char.isalnum() else "-" for char in name)
        return self.folder / f"{sum(1 for _ in self.folder.iterdir())}-{word}"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--gradscope-fail-on` and its ini option."""
    explained = (
        "least severity of a finding that gradscope.assert_healthy fails on: note, warning or error (the default)"
    )
    parser.getgroup("gradscope").addoption("--gradscope-fail-on", choices=_SEVERITIES, default=None, help=explained)
    parser.addini(_FAIL_ON, explained, default="error")


def pytest_configure(config: pytest.Config) -> None:
    """Refuses a severity that there is not."""
    fail_on(config)


def fail_on(config: pytest.Config) -> Severity:
    """The least severity that fails, as the option says it, else the ini file."""
    given = config.getoption(_FAIL_ON) or config.getini(_FAIL_ON)
    if given not in _SEVERITIES:
        raise pytest.UsageError(f"{_FAIL_ON} is one of {', '.join(_SEVERITIES)}; it is {given!r}.")
    return cast("Severity", given)


@pytest.fixture
def gradscope(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GradScopeFixture]:
    """A doctor for the training in a test: `watch`, `assert_healthy` and `check_model`, with runs in `tmp_path`."""
    fixture = GradScopeFixture(tmp_path / "gradscope", fail_on(request.config))
    yield fixture
    fixture.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the diagnosis of what was watched to the report of a test that failed."""
    report = yield
    fixture = getattr(item, "funcargs", {}).get("gradscope")
    if report.failed and call.when == "call" and isinstance(fixture, GradScopeFixture):
        try:
            said = fixture.report()
        except Exception as error:  # the test's own failure must be seen, whatever becomes of ours
            said = f"no diagnosis: {type(error).__name__}: {error}"
        if said:
            report.sections.append(("GradScope", said))
    return report
