"""What a session found, in a few lines, and what to type next."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.records import Diagnosis

if TYPE_CHECKING:
    from gradscope.autowatch.session import Session
    from gradscope.scope import Scope

_MOST = 4  # runs that are spoken of


def summary(session: Session) -> str:
    """The verdict on each run with its first finding and that one's best suggestion, and the commands to go on with."""
    lines = [f"gradscope: nothing was recorded: {session.missing}."] if not session.scopes else []
    sick = False
    for scope in session.scopes[:_MOST]:
        diagnosis = scope.diagnose()
        sick = sick or any(finding.suggestions for finding in diagnosis.findings)
        lines += [f"gradscope: {line}" for line in _said(scope, diagnosis, session.directory)]
    if len(session.scopes) > _MOST:
        lines.append(f"gradscope: and {len(session.scopes) - _MOST} more runs beside it")
    if sick and session.command:
        lines.append(f"gradscope: try the cures:  gradscope trial {shlex.join(session.command)}")
    return "\n".join(lines)


def _said(scope: Scope, diagnosis: Diagnosis, directory: str) -> list[str]:
    lines = [f"{diagnosis.verdict}: {diagnosis.headline}"]
    for finding in diagnosis.findings[:1]:
        if finding.message not in diagnosis.headline:
            lines.append(f"  {finding}")
        lines += [f"  try: {suggestion}" for suggestion in finding.suggestions[:1]]
    if scope._at is not None:
        lines.append(f"  all of it:  gradscope report {shlex.quote(shown(scope._at, directory))}")
    return lines


def shown(folder: Path, start: str) -> str:
    """A folder as short as it can be typed where the program was started; it may have gone elsewhere since.

    Example:
        >>> shown(Path("/home/me/runs/a"), "/home/me"), shown(Path("/data/a"), "/home/me")
        ('runs/a', '/data/a')
    """
    return os.path.relpath(folder, start) if str(folder).startswith(os.path.join(start, "")) else str(folder)
