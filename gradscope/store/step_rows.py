"""The summaries of a few recorded steps, found in a run that is too large to be read whole."""

from __future__ import annotations

import numpy as np

from gradscope.records import SUMMARY_ROW, Rows
from gradscope.store.folders import Folder, Location, open_folder
from gradscope.store.messages import Decoder
from gradscope.store.parts import first_part
from gradscope.store.schema import SUMMARIES, SUMMARY_SCHEMA, to_rows
from gradscope.store.segments import segments

_RETRIES = 2


def rows_of_steps(location: Location, first: int, last: int) -> Rows:
    """The rows of the recorded steps from `first` to `last`, dtype `SUMMARY_ROW`, in order.

    A step that was recorded again, by a training that was resumed, counts as it was the last time.

    Args:
        location: the folder of a run, of which the lowest rank's part is read, or of one rank's part.
        first, last: steps, both included.

    Raises:
        FileNotFoundError: the files were exchanged again and again while they were read.
    """
    opened = open_folder(location)
    folder = first_part(opened) or opened
    for _ in range(_RETRIES):
        try:
            return _rows(folder, first, last)
        except FileNotFoundError:  # merged with another since it was listed
            continue
    return _rows(folder, first, last)


def _rows(folder: Folder, first: int, last: int) -> Rows:
    found: dict[int, Rows] = {}
    for segment in segments(folder.files(), *SUMMARIES):
        content = folder.read(segment.name)
        header = b""
        for message, batch in Decoder(SUMMARY_SCHEMA, ("step",)).batches(content, first=True):
            header = header or content[: message.start]
            step = int(batch.column("step")[0].as_py())
            if first <= step <= last:
                piece = header + content[message.start : message.end]
                for _, whole in Decoder(SUMMARY_SCHEMA).batches(piece, first=True):
                    found[step] = to_rows(whole, SUMMARY_ROW)
    return np.concatenate([np.empty(0, SUMMARY_ROW), *(found[step] for step in sorted(found))])
