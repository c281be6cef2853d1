"""A picture of the map's cells as a PNG with a palette: one byte a cell, written with numpy and zlib."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradscope.reports import cells
from gradscope.reports.layer_map import MapData
from gradscope.reports.metrics import METRICS
from gradscope.reports.theme import Theme

MOST = 253  # indices 0 … 253 are the scale: steps of 0.05 decades where it spans 12
NOT_RECORDED, NON_FINITE = 254, 255


def codes(data: MapData) -> NDArray[np.uint8]:
    """The palette index of each cell, shape `[rows, columns]`; an exact zero is the low end of the scale."""
    metric = METRICS[data.metric]
    share = (np.nan_to_num(data.decades) - (metric.centre - metric.span)) / (2 * metric.span)
    indices: NDArray[np.uint8] = np.rint(share.clip(0, 1) * MOST).astype(np.uint8)
    indices[data.states == cells.ZERO] = 0
    indices[data.states == cells.NOT_RECORDED] = NOT_RECORDED
    indices[data.states == cells.NON_FINITE] = NON_FINITE
    return indices


def palette(theme: Theme) -> NDArray[np.uint8]:
    """The colours of all 256 indices, shape `[256, 3]`: the scale's stops with straight lines between them."""
    stops = np.array([_rgb(colour) for colour in theme.diverging])
    at = np.linspace(0, len(stops) - 1, MOST + 1)
    scale = np.stack([np.interp(at, np.arange(len(stops)), channel) for channel in stops.T], axis=1)
    return np.rint([*scale, _rgb(theme.not_recorded), _rgb(theme.non_finite)]).astype(np.uint8)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def png(indices: NDArray[np.uint8], colours: NDArray[np.uint8]) -> bytes:
    """The picture, one pixel a cell.

    Args:
        indices: shape `[rows, columns]`, at least one of each.
        colours: shape `[256, 3]`.
    """
    rows, columns = indices.shape
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)  # 8 bits a pixel, palette, not interlaced
    lines = np.pad(indices, ((0, 0), (1, 0)))  # each line begins with its filter: none
    chunks = ((b"IHDR", header), (b"PLTE", colours.tobytes()), (b"IDAT", zlib.compress(lines.tobytes(), 9)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in (*chunks, (b"IEND", b"")))


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def picture(data: MapData, theme: Theme) -> str:
    """The map as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(png(codes(data), palette(theme))).decode()


def gradient(colours: Sequence[str]) -> str:
    """The scale itself, as CSS."""
    return f"linear-gradient(to right, {', '.join(colours)})"
