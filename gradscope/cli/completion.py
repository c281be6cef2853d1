"""Print what a shell needs to complete commands and options: `source <(gradscope completion bash)`."""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser, Namespace, _SubParsersAction

from gradscope.cli._exit_codes import DONE

HELP = "print what bash, zsh or tcsh needs to complete commands and options"
SHELLS = ("bash", "zsh", "tcsh")
FOLDERS = ("path", "a", "b", "run_dir", "recorded")  # options that name one
FILES = ("output", "program", "baseline", "write_baseline")


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or tcsh")
    parser.epilog = (
        "bash: add `source <(gradscope completion bash)` to ~/.bashrc. "
        "zsh: write it to a file _gradscope in a folder of $fpath. "
        "tcsh: `gradscope completion tcsh | source /dev/stdin`."
    )


def run(options: Namespace) -> int:
    """Prints the script."""
    import shtab

    from gradscope.cli import parser

    whole = parser()
    for action in _actions(whole):
        if action.dest in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.dest in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    sys.stdout.write(shtab.complete(whole, options.shell) + "\n")
    return DONE


def _actions(parser: ArgumentParser) -> list[Action]:
    """Those of all commands."""
    found = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, _SubParsersAction):
            found += [each for command in action.choices.values() for each in _actions(command)]
    return found
