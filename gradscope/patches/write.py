"""A changed program written to disk: only over what ran, with a backup, all at once or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import tokenize
from pathlib import Path

from gradscope.errors import FileChanged, NoPatch


def write(file: Path, old: str, new: str) -> Path:
    """Writes a file's new text in its encoding, and gives the backup that it made of the old one.

    Args:
        file: of the user's program.
        old: its text when it ran, line ends as they are.
        new: its text from now on.

    Raises:
        FileChanged: the file is not, byte for byte, as it was when it ran, or is gone; nothing is written.
        NoPatch: the file cannot be written.
    """
    encoding = _checked(file, old)
    mark = b"\xef\xbb\xbf" if encoding == "utf-8-sig" else b""
    raw = mark + new.encode("utf-8" if mark else encoding)
    target = Path(os.path.realpath(file))  # a link stays a link
    try:
        backup = _back_up(target)
        _replace(target, raw)
    except OSError as error:
        raise NoPatch(f"cannot write {file}: {error.strerror}. Save the diff and apply it with `patch -p0`.") from error
    return backup


def check(file: Path, old: str) -> None:
    """Raises `FileChanged` where `write` would."""
    _checked(file, old)


def _checked(file: Path, old: str) -> str:
    """The file's encoding, once it is known to be as it was."""
    again = "Run it again under `gradscope run`, and take the fix of that run."
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise FileChanged(f"cannot read {file}, which ran: {error.strerror}. {again}") from error
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(raw).readline)[0]
        same = raw.decode(encoding) == old.removeprefix("\ufeff")
    except (SyntaxError, UnicodeDecodeError):
        same = False
    if not same:
        raise FileChanged(f"{file} has changed since it ran, so the fix may not fit; nothing was written. {again}")
    return encoding


def _back_up(file: Path) -> Path:
    """A copy beside the file by a name that nothing has yet: train.py.bak, then train.py.bak.1 and so on."""
    number = 0
    while True:
        backup = file.with_name(f"{file.name}.bak{f'.{number}' if number else ''}")
        try:
            with open(backup, "xb") as opened:
                opened.write(file.read_bytes())
        except FileExistsError:
            number += 1
            continue
        shutil.copystat(file, backup)
        return backup


def _replace(file: Path, raw: bytes) -> None:
    """Puts the bytes in the file's place in one move; its mode stays."""
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(raw)
            opened.flush()
            os.fsync(opened.fileno())
        shutil.copymode(file, name)
        os.replace(name, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
