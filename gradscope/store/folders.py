"""Folders to read from: on this machine, or at a URL of any filesystem that fsspec can open.

fsspec rather than `pyarrow.fs`: it comes with torch, it opens everything that `pyarrow.fs` does and what that does not
(`memory://`, `https://`, `hf://`, `zip://`), and a new filesystem is a package to install, not a build of Arrow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from gradscope.errors import MissingPackage, RunNotFound, RunUnreachable

Location = Path | str  # a path, or a URL


class Stamp(NamedTuple):
    """What a folder says of a file without reading it."""

    size: int  # bytes
    version: str  # another one when the file was replaced; "" where the filesystem does not say
    written: float  # seconds since 1970; 0 where the filesystem does not say
    changed: float  # the same by a clock that copying does not set back, where there is one


class Folder(Protocol):
    """A folder that can be looked at and read. Its text is what the user calls it."""

    @property
    def location(self) -> Location:
        """As the user gave it."""

    @property
    def name(self) -> str:
        """Its last part."""

    def exists(self) -> bool:
        """Whether it is there, and a folder."""

    def is_file(self) -> bool:
        """Whether it is there, and a file."""

    def files(self) -> dict[str, Stamp]:
        """The files in it, no folders, as they are now. Empty when there is no such folder."""

    def folders(self) -> list[str]:
        """The names of the folders in it, without links such as `latest`."""

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """A file's bytes from `start` on, `length` of them or, when that is -1, all.

        Raises:
            FileNotFoundError: it is gone.
        """

    def child(self, name: str) -> Folder:
        """A folder in it."""

    def parent(self) -> Folder:
        """The folder that it is in."""

    def resolved(self) -> Location:
        """Where it is, links followed and from the root on."""


def open_folder(location: Location) -> Folder:
    """The folder at a path or URL; `file://` is a path.

    Raises:
        MissingPackage: the package that opens such URLs is not installed.
        RunNotFound: no filesystem is known for such URLs.

    Example:
        >>> open_folder("file:///tmp/run").location
        PosixPath('/tmp/run')
    """
    text = str(location)
    if text.startswith(("file://", "local://")):
        return LocalFolder(Path(unquote(urlsplit(text).path)))
    if isinstance(location, str) and is_url(location):
        return RemoteFolder(location)
    return LocalFolder(Path(location))


def is_url(text: str) -> bool:
    """Whether a text names a filesystem: `memory://run`, `s3://bucket/run`, `zip://run::file.zip`."""
    return "://" in text


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.location = path
        self.name = path.name

    def __str__(self) -> str:
        return str(self.location)

    def exists(self) -> bool:
        """See `Folder`."""
        return self.location.is_dir()

    def is_file(self) -> bool:
        """See `Folder`."""
        return self.location.is_file()

    def files(self) -> dict[str, Stamp]:
        """See `Folder`."""
        found = {}
        try:
            with os.scandir(self.location) as entries:
                for entry in entries:
                    try:
                        if entry.is_file():
                            stat = entry.stat()
                            version = f"{stat.st_ino}.{stat.st_mtime_ns}"
                            found[entry.name] = Stamp(stat.st_size, version, stat.st_mtime, stat.st_ctime)
                    except FileNotFoundError:  # replaced since
                        continue
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return found

    def folders(self) -> list[str]:
        """See `Folder`."""
        try:
            with os.scandir(self.location) as entries:
                return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """See `Folder`."""
        with (self.location / name).open("rb") as stream:
            stream.seek(start)
            return stream.read(length)

    def child(self, name: str) -> LocalFolder:
        """See `Folder`."""
        return LocalFolder(self.location / name)

    def parent(self) -> LocalFolder:
        """See `Folder`."""
        return LocalFolder(self.location.parent)

    def resolved(self) -> Path:
        """See `Folder`."""
        return self.location.resolve()


class RemoteFolder:
    """A folder at a URL."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.location = url if url.endswith("://") else url.rstrip("/")
        protocol = url.partition("://")[0].rpartition("::")[2]
        try:
            self._system, self._path = fsspec.core.url_to_fs(self.location)
        except ImportError as error:
            raise MissingPackage(f"{url} cannot be opened: {error}. fsspec opens {protocol}:// with it.") from error
        except ValueError as error:
            raise RunNotFound(
                f"no run at {url}: no filesystem is known for {protocol}:// ({error}). Expected a path, or a URL that "
                "fsspec can open, such as file://, s3://, gs:// or memory://."
            ) from error
        self.name = self._path.rstrip("/").rpartition("/")[2]

    def __str__(self) -> str:
        return str(self.location)

    def exists(self) -> bool:
        """See `Folder`."""
        with self._reached():
            self._system.invalidate_cache()
            return bool(self._system.isdir(self._path))

    def is_file(self) -> bool:
        """See `Folder`."""
        with self._reached():
            return bool(self._system.isfile(self._path))

    def files(self) -> dict[str, Stamp]:
        """See `Folder`."""
        return {
            _last(each["name"]): Stamp(int(each["size"] or 0), _version(each), _written(each), _written(each))
            for each in self._listing()
            if each["type"] == "file"
        }

    def folders(self) -> list[str]:
        """See `Folder`."""
        return [_last(each["name"]) for each in self._listing() if each["type"] == "directory"]

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """See `Folder`."""
        end = None if length < 0 else start + length
        with self._reached():
            return bytes(self._system.cat_file(f"{self._path}/{name}", start=start or None, end=end))

    def child(self, name: str) -> RemoteFolder:
        """See `Folder`."""
        return RemoteFolder(self._beside(lambda path: path + ("" if path.endswith("/") else "/") + name))

    def parent(self) -> RemoteFolder:
        """See `Folder`."""
        return RemoteFolder(self._beside(lambda path: path[: path.rindex("/") + 1]))

    def resolved(self) -> str:
        """See `Folder`."""
        return self.location

    def _beside(self, change: Callable[[str], str]) -> str:
        """This URL with another path: "zip://runs::s3://bucket/file.zip" has its path before the "::"."""
        path, chain, rest = self.location.partition("::")
        return change(path) + chain + rest

    def _listing(self) -> list[dict[str, Any]]:
        try:
            with self._reached():
                self._system.invalidate_cache()  # fsspec remembers listings, and a run grows
                listing: list[dict[str, Any]] = self._system.ls(self._path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return listing

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Says in our words that nobody answers: each filesystem has errors of its own."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}".split("\n")[0]
            raise RunUnreachable(
                f"cannot read {self.location}: {why}. Check the address, the network and who may read there."
            ) from error


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _version(entry: dict[str, Any]) -> str:
    """What a filesystem calls a file's version, by the names that fsspec's have for it."""
    known = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
    return next((str(entry[key]) for key in known if entry.get(key)), "")


def _written(entry: dict[str, Any]) -> float:
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = entry.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return 0.0
