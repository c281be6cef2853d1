"""A page for each module with public names, from its docstrings, which griffe takes apart (ISC licence)."""

from __future__ import annotations

import ast
import inspect
import pprint
from functools import cache
from pathlib import Path
from typing import Any

import griffe

import gradscope
from tests.docs.prose import Page, escaped, markdown, table

ADAPTERS = (
    "lightning", "transformers", "accelerate", "ignite", "skorch",
    "tensorboard", "wandb", "mlflow", "prometheus", "opentelemetry",
)  # fmt: skip
MODULES = (
    "gradscope",
    "gradscope.testing",
    "gradscope.alerts",
    *(f"gradscope.integrations.{name}" for name in ADAPTERS),
    "gradscope.errors",
)


def pages() -> dict[str, Page]:
    """Path -> page."""
    return {f"api/{name}.md": _page(name) for name in MODULES}


@cache
def _package() -> Any:
    package = griffe.load(
        "gradscope", search_paths=[Path(gradscope.__file__).parents[1]], docstring_parser="google", resolve_aliases=True
    )
    return package


def public(module: str) -> list[str]:
    """Its public names: `__all__`, or what it defines."""
    found = _package() if module == "gradscope" else _package()[module.removeprefix("gradscope.")]
    if found.exports:
        return sorted(map(str, found.exports))
    return [
        name
        for name, member in found.members.items()
        if not member.is_alias and not name.startswith("_") and (member.is_class or member.is_function)
    ]


def _page(module: str) -> Page:
    found = _package() if module == "gradscope" else _package()[module.removeprefix("gradscope.")]
    text = inspect.cleandoc(found.docstring.value)
    summary = text.split("\n\n")[0].replace("\n", " ").removesuffix(":") + (
        "." if text.split("\n\n")[0][-1] == ":" else ""
    )
    parts = [f"# {module}", _sections(found.docstring)]
    for name in public(module):
        member = found.members.get(name)
        member = _home(module, name) if member is None or not member.has_docstring else member
        parts += list(_member(name, member))
    return Page(escaped(summary), "\n\n".join(part for part in parts if part) + "\n")


def _home(module: str, name: str) -> Any:
    """Where a name is defined that its module only hands on."""
    import importlib

    value = getattr(importlib.import_module(module), name)
    if inspect.ismodule(value):  # `gradscope.autowatch`, which can be called
        return _package()[value.__name__.removeprefix("gradscope.")]
    home = getattr(value, "__module__", module)
    return _package()[f"{home.removeprefix('gradscope.')}.{name}"] if home != "gradscope" else _package()[name]


def _member(name: str, member: Any) -> list[str]:
    member = member.final_target if member.is_alias else member
    parts = [f"## {name}"]
    if member.is_attribute:
        value = pprint.pformat(ast.literal_eval(str(member.value)), width=110, sort_dicts=False)
        parts.append(f"```python\n{name} = {value}\n```")
    elif member.is_function:
        parts.append(_signature(name, member))
    elif member.is_class and "__init__" in member.members and not member.members["__init__"].is_alias:
        parts.append(_signature(name, member.members["__init__"]))
    if member.docstring:
        parts.append(_sections(member.docstring))
    if member.is_class:
        for method, inner in member.members.items():
            if not method.startswith("_") and not inner.is_alias and inner.is_function and inner.docstring:
                parts += [f"### {name}.{method}", _signature(method, inner), _sections(inner.docstring)]
    return parts


def _signature(name: str, function: Any) -> str:
    parts, starred = [], False
    for each in function.parameters:
        if each.name == "self":
            continue
        kind = each.kind.value if each.kind else ""
        if kind == "keyword-only" and not starred:
            starred = True
            parts.append("*")
        starred = starred or kind == "variadic positional"
        stars = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        note = f": {each.annotation}" if each.annotation is not None else ""
        default = f" = {each.default}" if each.default is not None and not stars else ""
        parts.append(f"{stars}{each.name}{note}{default}")
    line = f"{name}({', '.join(parts)})"
    gives = f" -> {function.returns}" if function.returns is not None else ""
    if len(line + gives) > 100:
        line = f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + ")"
    return f"```python\n{line}{gives}\n```"


def _sections(docstring: Any) -> str:
    parts = []
    for section in docstring.parse("google", warnings=False):
        kind = section.kind.value
        if kind == "text":
            parts.append(markdown(section.value))
        elif kind in ("parameters", "other parameters", "attributes"):
            rows = [(f"`{each.name}`", escaped(each.description)) for each in section.value]
            parts.append(table(("argument" if kind != "attributes" else "attribute", "meaning"), rows))
        elif kind == "raises":
            parts.append(
                "Raises: " + " ".join(f"`{each.annotation}`: {escaped(each.description)}" for each in section.value)
            )
        elif kind == "returns":
            parts.append("Returns: " + " ".join(escaped(each.description) for each in section.value))
        elif kind == "examples":
            code = "\n".join(text for _, text in section.value)
            parts.append(f"```pycon\n{code}\n```")
        elif kind == "admonition" and (section.title or "").startswith("Example"):
            parts.append(f"```pycon\n{section.value.description}\n```")
        elif kind == "admonition":
            parts.append(f"**{section.title}:** {markdown(section.value.description)}")
    return "\n\n".join(parts)
