"""What `make` installs: every direct dependency, exactly, and nothing twice."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parent.parent
BUILD_BACKEND = "hatchling"


def _constraints() -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in (CHECKOUT / "constraints.txt").read_text().splitlines())
    return [Requirement(line) for line in lines if line]


def _in_force() -> dict[str, str]:
    """The constraints that hold for this Python: name and version."""
    chosen = [each for each in _constraints() if each.marker is None or each.marker.evaluate()]
    assert len(chosen) == len({each.name for each in chosen})
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in chosen}


def _direct() -> list[Requirement]:
    """The requirements that pyproject.toml names, those of extras too."""
    return [
        requirement
        for each in metadata.requires("torch-gradscope") or []
        if (requirement := Requirement(each)).name != "torch-gradscope"
    ]


@pytest.mark.parametrize("requirement", _direct(), ids=str)
def test_every_direct_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    """constraints.txt names one version of each direct dependency, one that pyproject.toml allows."""
    assert requirement.specifier.contains(_in_force()[canonicalize_name(requirement.name)])


def test_the_build_backend_is_pinned() -> None:
    """A wheel is built with a known backend."""
    assert re.fullmatch(r"[\d.]+", _in_force()[BUILD_BACKEND])


@pytest.mark.parametrize("constraint", _constraints(), ids=str)
def test_a_constraint_is_one_exact_version(constraint: Requirement) -> None:
    """No constraint is a range."""
    assert re.fullmatch(r"==[\d.]+", str(constraint.specifier))


def _only_for_the_benchmark() -> set[str]:
    """What nobody needs but `make bench`, which alone installs it."""
    return {canonicalize_name(each.name) for each in _direct() if 'extra == "bench"' in str(each.marker)}


@pytest.mark.parametrize("name", sorted(_in_force().keys() - _only_for_the_benchmark()))
def test_the_tests_run_with_the_pinned_version(name: str) -> None:
    """What is installed here is what constraints.txt says."""
    assert metadata.version(name).split("+")[0] == _in_force()[name]


def test_every_command_of_the_makefile_is_explained() -> None:
    """`make` without a goal prints what each goal does, and names every one that a person would type."""
    text = (CHECKOUT / "Makefile").read_text()
    goals = set((re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE) or [""])[1].split()) - {
        "help",
        "chromium",
        "graphviz",
    }
    assert {line.split()[2] for line in text.splitlines() if line.startswith("#   make ")} == goals


def test_ci_runs_the_one_command() -> None:
    """.ci/run can be executed and runs `make test`."""
    script = CHECKOUT / ".ci" / "run"
    assert script.stat().st_mode & 0o111 == 0o111
    assert script.read_text().splitlines()[-1] == "exec make test"
