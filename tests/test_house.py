"""The shape of the house: who imports whom, how long things are, what they are called."""

from __future__ import annotations

import ast
import importlib
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import gradscope

PACKAGE = Path(gradscope.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [str(file.relative_to(PACKAGE)) for file in FILES]

# A file imports only from floors below its own, or from its own folder. The tree is the pipeline.
FLOORS = {
    "__init__": 10,
    "__main__": 10,
    "cli": 9,
    "dashboard": 8,
    "trials": 8,
    "doctor": 8,
    "autowatch": 7,
    "testing": 7,
    "integrations": 8,
    "scope": 6,
    "reports": 5,
    "comparison": 5,
    "diagnosis": 5,
    "remedies": 4,
    "rules": 4,
    "signals": 3,
    "recorder": 3,
    "surgery": 3,
    "patches": 3,
    "stats": 2,
    "store": 2,
    "catalogue": 2,
    "alerts": 2,
    "beside": 2,
    "notices": 1,
    "numerals": 1,
    "packaged": 1,
    "records": 1,
    "errors": 1,
}
TORCH_FREE = (
    "alerts",
    "beside",
    "notices",
    "numerals",
    "packaged",
    "records",
    "errors",
    "store",
    "catalogue",
    "signals",
    "rules",
    "remedies",
    "patches",
    "diagnosis",
    "comparison",
    "reports",
    "dashboard",
    "cli",
)
LONGEST_FILE, LONGEST_FUNCTION = 400, 60  # lines
NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "core", "helpers", "helper", "misc", "base", "tools"}
PRIVATE_TORCH_FILE = "recorder/private.py"
PRIVATE_TORCH_NAME = re.compile(r"torch[\w.]*\._(?!_)\w+|_execution_engine|_current_graph_task_id")


def _part(module: str) -> str:
    """The part of the house that a file belongs to: its folder or, on the top level, its own name."""
    return Path(module).parts[0].removesuffix(".py")


def _parse(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"))


def _imported_parts(module: str) -> Iterator[tuple[str, int]]:
    """The parts of gradscope that a file imports, anywhere in it, with the line."""
    for node in ast.walk(_parse(module)):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield "a relative import", node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "gradscope":
            for name in node.names:
                if name.name != "__version__":  # a string, not a part of the house
                    yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradscope."):
            yield (node.module or "").split(".")[1], node.lineno
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "gradscope":
                    yield [*name.name.split("."), "__init__"][1], node.lineno


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_only_from_floors_below_or_its_own_folder(module: str) -> None:
    """Imports go down the house, those inside functions and those for type checkers too."""
    part = _part(module)
    wrong = [
        f"line {line} imports {imported}"
        for imported, line in _imported_parts(module)
        if imported != part and not FLOORS.get(imported, 99) < FLOORS[part]
    ]
    assert wrong == []


def test_every_part_of_the_house_has_its_floor() -> None:
    """A new file or folder on the top level is given its place before it is used."""
    assert {_part(module) for module in MODULES} <= set(FLOORS)


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring: explaining more is not what the wall is against."""
    text = ast.get_docstring(function, clean=False)
    return (function.end_lineno or 0) - function.lineno + 1 - (len(text.splitlines()) if text else 0)


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_short(module: str) -> None:
    """No file is longer than 400 lines, no function longer than 60, its docstring aside."""
    length = len((PACKAGE / module).read_text(encoding="utf-8").splitlines())
    assert length <= LONGEST_FILE
    long = {
        node.name: lines
        for node in ast.walk(_parse(module))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (lines := _length(node)) > LONGEST_FUNCTION
    }
    assert long == {}


@pytest.mark.parametrize("module", MODULES)
def test_a_files_name_says_what_is_in_it(module: str) -> None:
    """There is no utils.py and nothing like it."""
    assert not NAMES_THAT_SAY_NOTHING & {part.removesuffix(".py").strip("_") for part in Path(module).parts}


def test_every_public_name_is_there() -> None:
    """What `gradscope.__all__` promises, `import gradscope` gives."""
    assert [name for name in getattr(gradscope, "__all__", []) if not hasattr(gradscope, name)] == []


def _import_alone(names: list[str]) -> str:
    """Imports modules in a fresh interpreter; gives those of torch and Dash that came with them."""
    program = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "print(*sorted({'torch', 'dash', 'plotly', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _modules_of(part: str) -> list[str]:
    names = [module.removesuffix(".py").removesuffix("/__init__") for module in MODULES if _part(module) == part]
    return [f"gradscope.{name.replace('/', '.')}" for name in names]


@pytest.mark.parametrize("part", [part for part in TORCH_FREE if _modules_of(part)])
def test_what_reads_runs_needs_no_torch(part: str) -> None:
    """Every module that works on saved runs can be imported without torch; only the dashboard imports Dash."""
    came = _import_alone(_modules_of(part))
    assert came.split() == (["dash", "plotly"] if part == "dashboard" and "dash" in came else [])


def test_importing_gradscope_is_cheap() -> None:
    """`import gradscope` by itself brings neither torch nor Dash."""
    assert _import_alone(["gradscope"]) == ""


def _code(module: str) -> str:
    """A file's code without its comments and strings."""
    tokens = tokenize.generate_tokens(io.StringIO((PACKAGE / module).read_text(encoding="utf-8")).readline)
    return "".join(token.string for token in tokens if token.type not in (tokenize.COMMENT, tokenize.STRING))


@pytest.mark.parametrize("module", [module for module in MODULES if module != PRIVATE_TORCH_FILE])
def test_private_names_of_torch_live_in_one_file(module: str) -> None:
    """torch's private names are used in recorder/private.py and nowhere else."""
    code = _code(module)
    assert PRIVATE_TORCH_NAME.findall(code) == []


def test_the_scan_for_private_names_finds_them() -> None:
    """The scan is not blind: it finds the names in the one file that may have them."""
    if (PACKAGE / PRIVATE_TORCH_FILE).exists():
        assert PRIVATE_TORCH_NAME.search(_code(PRIVATE_TORCH_FILE))


@pytest.mark.parametrize("module", MODULES)
def test_every_file_says_what_it_is(module: str) -> None:
    """Each file begins with a docstring whose first line is a sentence."""
    first = (ast.get_docstring(_parse(module)) or "").split("\n\n")[0]
    assert first.rstrip(":").endswith((".", "!", "?")) or first.endswith(":")


def test_every_module_can_be_imported() -> None:
    """No file waits to fail until somebody uses it."""
    for module in MODULES:
        name = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        importlib.import_module("gradscope" if name == "__init__" else f"gradscope.{name}")
