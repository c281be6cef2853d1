"""A page for each command, from the parser that runs it."""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction

from gradscope.cli import commands, parser
from tests.docs.prose import Page, escaped, markdown, table

EXIT_CODES = [
    ("0", "done"),
    ("1", "of `check` alone: findings at or above `--fail-on`"),
    ("2", "wrong usage, or a run that cannot be read"),
    ("3", "an error of GradScope itself"),
    ("4", "of `check` alone: not enough data to judge"),
    ("130", "Ctrl-C"),
]


def pages() -> dict[str, Page]:
    """Path -> page."""
    modules = commands()
    return {
        f"cli/{name}.md": Page(f"{escaped(modules[name].HELP)}.", _page(name, each)) for name, each in parsers().items()
    }


def parsers() -> dict[str, ArgumentParser]:
    """The parser of each command."""
    (choices,) = (action for action in parser()._actions if isinstance(action, _SubParsersAction))
    return dict(choices.choices)


def _page(name: str, command: ArgumentParser) -> str:
    actions = [action for action in command._actions if action.help != SUPPRESS and action.dest != "help"]
    parts = [
        f"# gradscope {name}",
        escaped(command.description or ""),
        f"```console\n{_usage(command)}\n```",
    ]
    if actions:
        parts.append(table(("argument", "meaning"), [(_names(each), escaped(_help(each))) for each in actions]))
    if command.epilog:
        parts.append(markdown(command.epilog))
    own = "`gradscope run` returns what the script returns; 2 and 3 where it could not be run."
    parts += ["## Exit codes", own if name == "run" else table(("code", "meaning"), _codes(name))]
    return "\n\n".join(parts) + "\n"


def _usage(command: ArgumentParser) -> str:
    if command.usage:
        return "\n".join(line.strip() for line in (command.usage % {"prog": command.prog}).splitlines())
    named = [action for action in command._actions if not action.option_strings]
    words = [f"[{_value(each)}]" if each.nargs == "?" else _value(each) for each in named]
    return " ".join([command.prog, "[options]", *words])


def _value(action: Action) -> str:
    """What stands for its value."""
    if isinstance(action.metavar, str):
        return action.metavar
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()


def _names(action: Action) -> str:
    value = _value(action).replace("|", "\\|")
    if not action.option_strings:
        return f"`{value}`"
    takes = "" if action.nargs == 0 else f" {value}"
    return ", ".join(f"`{option}{takes}`" for option in action.option_strings)


def _help(action: Action) -> str:
    return (action.help or "").replace("%%", "%")


def _codes(name: str) -> list[tuple[str, ...]]:
    return [each for each in EXIT_CODES if name == "check" or each[0] not in ("1", "4")]
