"""The runs that the page shows: found in a folder, followed while they grow, judged once for each growth."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from gradscope.dashboard.brief import Brief, brief_of
from gradscope.dashboard.followed import Followed
from gradscope.dashboard.followed import Snapshot as Snapshot
from gradscope.dashboard.learning.examples import example_folder
from gradscope.errors import GradScopeError, NotARun, RunNotFound
from gradscope.store import part_folders
from gradscope.store.find import runs_in
from gradscope.store.folders import Folder, Location, open_folder
from gradscope.store.mutes import MUTES_FILE
from gradscope.store.schema import RUN_FILE

MOST_KEPT = 4  # runs that are kept in memory after they were looked at
MOST_BYTES = 160 * 2**20  # of their summaries; the run that is looked at is kept in any case
MOST_BRIEFS = 5_000


@dataclass(frozen=True)
class Stamp:
    """What a run folder's files say without being read."""

    version: str  # changes whenever the run does, or what is muted of it
    written: float  # by the training, seconds since 1970


class Runs:
    """One run folder, or a folder of runs; safe to use from several threads.

    Raises:
        RunNotFound: nothing is at `path`.
        NotARun: `path` is a file.
    """

    def __init__(self, path: Location) -> None:
        folder = open_folder(path)
        if folder.is_file():
            raise NotARun(f"{path} is a file; expected a run folder or a folder of runs.")
        if not folder.exists():
            raise RunNotFound(
                f"no run at {path}: there is no such folder. Runs are in `runs/` unless run_dir= says else."
            )
        self.location = folder.resolved()
        self._root = open_folder(self.location)
        self._single = bool(part_folders(self._root))
        self._followed: dict[str, Followed] = {}  # those looked at last, the latest last
        self._briefs: dict[str, tuple[str, Brief]] = {}  # name -> version, line
        self._lock = threading.Lock()
        self._reading = threading.Lock()  # of runs for the list: one at a time, so that memory stays bounded

    def names(self) -> list[str]:
        """The runs' names, newest first."""
        return [self._root.name] if self._single else [folder.name for folder in runs_in(self._root)]

    def listed(self) -> AbstractSet[str]:
        """What is in the folder, runs or not: for many questions to `stamp` at one moment."""
        return {self._root.name} if self._single else frozenset(self._root.folders())

    def folder(self, name: str) -> Folder:
        """The folder of a run. Only names that `names` lists are accepted, so that none leads out of the folder; and
        those of the examples that come with GradScope.

        Raises:
            RunNotFound: no such run.
        """
        packaged = example_folder(name)
        return packaged if packaged is not None else self._found(name, None)[0]

    def stamp(self, name: str, listed: AbstractSet[str] | None = None) -> Stamp:
        """A run's version, from its files' sizes and times: cheap enough to ask every second.

        Args:
            name: of the run.
            listed: what `listed` just gave; else the folder is listed for this one.

        Raises:
            RunNotFound: no such run.
        """
        parts, written = [name], 0.0
        for part in self._found(name, listed)[1]:
            files = part.files()
            parts += [part.name, files[RUN_FILE].version if RUN_FILE in files else ""]
            parts += [f"{file}.{stamp.size}" for file, stamp in sorted(files.items())]
            written = max(written, *(stamp.written for file, stamp in files.items() if file != MUTES_FILE), 0.0)
        followed = self._followed.get(name)
        if followed is not None and followed.rounds:
            parts.append(f"read {followed.rounds}")
        return Stamp("-".join(parts), written)

    def stamps(self, names: Iterable[str]) -> list[Stamp]:
        """The stamps of several runs at one moment, for which the folder is listed once.

        Raises:
            RunNotFound: one of them is not there.
        """
        listed = self.listed()
        return [self.stamp(name, listed) for name in names]

    def get(self, name: str) -> Snapshot:
        """The run as it is now, read and judged again only when its files grew.

        Of a run that is too large to be read at once this reads on, and the version changes when there is more to show.

        Raises:
            RunError: the run cannot be read; the text says why and what to do.
        """
        folder = self.folder(name)
        with self._lock:
            followed = self._followed.pop(name, None) or Followed(name, folder)
            self._followed[name] = followed
        with followed.lock:
            snapshot = followed.snapshot(self._version(name))
        with self._lock:
            self._let_go()
        return snapshot

    def peek(self, name: str) -> Snapshot | None:
        """The run as it was read last, without touching the disk; None when it was let go since."""
        followed = self._followed.get(name)
        return followed.latest if followed else None

    def brief(self, name: str) -> Brief:
        """The run in a line, read and judged again only when its files grew, and let go; `problem` says what failed.

        Raises:
            RunNotFound: no such run.
        """
        version = self._version(name)
        kept = self._briefs.get(name)
        if kept is not None and kept[0] == version:
            return kept[1]
        followed = self._followed.get(name)
        if followed is not None and followed.latest is not None and followed.version == version:
            latest = followed.latest
            brief = brief_of(latest.run, latest.diagnosis, latest.seconds)
        else:
            with self._reading:
                brief = _brief_from_disk(name, self.folder(name))
        with self._lock:
            self._briefs.pop(name, None)
            self._briefs[name] = version, brief
            while len(self._briefs) > MOST_BRIEFS:
                del self._briefs[next(iter(self._briefs))]
        return brief

    def _found(self, name: str, listed: AbstractSet[str] | None) -> tuple[Folder, list[Folder]]:
        """A run's folder and its parts."""
        folder = example_folder(name)
        if folder is None and name in (self.listed() if listed is None else listed):
            folder = self._root if self._single else self._root.child(name)
        parts = [] if folder is None else part_folders(folder)
        if folder is None or not parts:
            raise RunNotFound(f"no run named {name!r} in {self.location}: it was moved, renamed or deleted.")
        return folder, parts

    def _version(self, name: str) -> str:
        """The version of the files alone."""
        return self.stamp(name).version.partition("-read ")[0]

    def _let_go(self) -> None:
        """Forgets the runs that were not looked at for longest: few are kept, and of large ones fewer."""
        sizes = {name: each.size for name, each in self._followed.items()}
        for name in list(self._followed)[:-1]:
            if len(self._followed) > MOST_KEPT or sum(sizes[each] for each in self._followed) > MOST_BYTES:
                del self._followed[name]


def _brief_from_disk(name: str, folder: Folder) -> Brief:
    try:
        latest = Followed(name, folder).snapshot("")
    except GradScopeError as error:
        return Brief(problem=str(error))
    return brief_of(latest.run, latest.diagnosis, latest.seconds)
