"""The message of a single step, filled in rather than made: every step of a training is written, so each µs counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gradscope.records import STEP, Rows
from gradscope.store.messages import Encoder, reseal
from gradscope.store.schema import LEARNING_RATES, STEP_SCHEMA, step_batch


class _Form:
    """The message of a step with so many learning rates, and where each number is in it: Arrow says so itself."""

    def __init__(self, encoder: Encoder, rates: int) -> None:
        message = encoder.message(step_batch(np.zeros(1, STEP), [[0.0] * rates]))
        content = pa.py_buffer(message)
        batch = pa.ipc.read_record_batch(content, STEP_SCHEMA)  # not a copy: its columns lie in the message
        names = list(STEP.names or ())
        offsets = [batch.column(name).buffers()[1].address - content.address for name in names]
        layout: Any = {
            "names": names,
            "formats": [STEP[name] for name in names],
            "offsets": offsets,
            "itemsize": len(message),
        }
        self.message = bytearray(message)
        self.seal = message.index(b"crc32:")
        self.row = np.frombuffer(self.message, np.dtype(layout))
        self.rates: NDArray[np.float64] = np.empty(0)
        if rates:
            values = batch.column(LEARNING_RATES.name).values.buffers()[1]
            self.rates = np.frombuffer(self.message, "f8", rates, values.address - content.address)


class SingleSteps:
    """Makes the messages of single steps, about ten times faster than Arrow makes a batch of one row."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._forms: dict[int, _Form] = {}

    def message(self, step: Rows, learning_rates: list[float]) -> bytes:
        """The message of one step: dtype `STEP`, shape `[1]`."""
        form = self._forms.get(len(learning_rates))
        if form is None:
            form = self._forms[len(learning_rates)] = _Form(self._encoder, len(learning_rates))
        form.row[:] = step
        form.rates[:] = learning_rates
        reseal(form.message, form.seal)
        return bytes(form.message)
