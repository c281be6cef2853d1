"""Run <-> disk: a folder that any tool can read, append-only, crash-safe and versioned (DESIGN §5).

    run.json          what, when, versions, sites; replaced as a whole
    steps.arrow       an Arrow IPC stream, one row a step
    summaries.arrow   an Arrow IPC stream, one record batch a recorded step
    events.jsonl      one JSON object a line
    schedule.json     which steps the ranks of a training on many processes record, said ahead by rank 0
    rank-3/           the same four files from rank 3 of a training on many processes; rank 0's are above
    trials/1/         what a trial of the run found, and how far it has come (status.json)
    mutes.json        findings that somebody has muted, with the reasons

A file that is full, or a run that is resumed, goes on in `summaries-1.arrow`, `summaries-2.arrow` …; old ones are merged
and thinned into `summaries-0-1.arrow`, so that a run keeps within its disk budget (see `segments` for the names,
`thinning` for what is kept, the docstring of `gradscope` for how much that is). Every message carries a checksum
(`messages`).

`RunWriter` appends, `RunReader` follows, and where it is told how much memory it may take, it reads of a large run what
tells most and looks at the rest (`excerpt`). Whoever judges a run reads it so, within one limit (`bounded`); whoever hands
its numbers on reads it stretch by stretch (`stream`); `read_run` reads all of it once, `list_runs` looks for runs in a
folder. Reading takes paths and URLs of any filesystem that fsspec can open (`folders`).
"""

from gradscope.store.find import list_runs, resolve_run
from gradscope.store.parts import RunReader, last_step, part_folder, part_folders, read_run
from gradscope.store.reader import read_info
from gradscope.store.writer import RunWriter

__all__ = [
    "RunReader",
    "RunWriter",
    "last_step",
    "list_runs",
    "part_folder",
    "part_folders",
    "read_info",
    "read_run",
    "resolve_run",
]
