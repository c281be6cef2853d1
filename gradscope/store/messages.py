"""Arrow IPC messages under a checksum, so that a damaged one is told before Arrow's C++ reads it.

Arrow trusts what it reads: a flipped byte in a length can end the process. Each message of ours carries, in its custom
metadata, its own length and the CRC-32 of all its bytes (taken with the CRC's digits as zeros). Other tools ignore it.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import pyarrow as pa

END = b"\xff\xff\xff\xff\0\0\0\0"  # ends an Arrow stream; may be missing
_CONTINUES = b"\xff\xff\xff\xff"  # begins a message, before its metadata's length
_LONGEST_METADATA = 2**16  # bytes; ours are some 2 kB
_BLANK = b"crc32:00000000:000000000000"  # the checksum and the message's length, both hexadecimal
_SEAL = re.compile(rb"crc32:([0-9a-f]{8}):([0-9a-f]{12})")


class Message(NamedTuple):
    """Where one message lies in its file's content."""

    start: int
    end: int
    sealed: bool  # False in streams of versions that wrote no checksums


class Encoder:
    """Makes the messages of one stream: `header` once, then `message` for each batch."""

    def __init__(self, schema: pa.Schema, compression: str | None) -> None:
        blank = {b"gradscope": _BLANK}
        header = bytearray(schema.with_metadata(blank).serialize())
        _seal(header)
        self.header = bytes(header)
        self._blank = blank
        self._buffer = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(compression=compression, use_threads=False)
        self._stream = pa.ipc.new_stream(self._buffer, schema, options=options)
        nothing = [pa.nulls(0, field.type) for field in schema]
        self._stream.write_batch(pa.record_batch(nothing, schema=schema))  # brings the stream's own header, dropped

    def message(self, batch: pa.RecordBatch) -> bytes:
        """One batch as a whole message."""
        self._buffer.seek(0)
        self._buffer.truncate()
        self._stream.write_batch(batch, custom_metadata=self._blank)
        with self._buffer.getbuffer() as message:
            _seal(message)
        return self._buffer.getvalue()


def _seal(message: bytearray | memoryview) -> None:
    (size,) = struct.unpack_from("<i", message, 4)
    at = 8 + bytes(message[8 : 8 + size]).index(_BLANK)
    message[at : at + len(_BLANK)] = b"crc32:00000000:%012x" % len(message)
    reseal(message, at)


def reseal(message: bytearray | memoryview, at: int) -> None:
    """Puts the checksum of what the message holds now where its seal is."""
    message[at + 6 : at + 14] = b"00000000"
    message[at + 6 : at + 14] = b"%08x" % zlib.crc32(message)


def split(content: bytes, unsealed: bool) -> Iterator[Message]:
    """The whole, undamaged messages in a file's bytes, which begin where a message does.

    A damaged message costs itself: the next one with a right checksum is found behind it. What is left after the last
    may be the first half of a message that is still being written.

    Args:
        content: not empty.
        unsealed: whether messages without checksums are accepted where there is none with one.
    """
    position = 0
    while (message := _sealed(content, position) or _later(content, position + 1)) is not None:
        yield message
        position, unsealed = message.end, False
    if unsealed and not _SEAL.search(content):
        yield from _unsealed(content)


class Decoder:
    """Reads the batches of a stream, which may come in parts.

    Args:
        schema: what is expected. A stream with fewer columns is read, one with a column of another type is not.
        columns: those that are unpacked; none: all.
    """

    def __init__(self, schema: pa.Schema, columns: Sequence[str] = ()) -> None:
        self._expected, self._columns = schema, columns
        self._follow(schema)
        self._unsealed = True

    def _follow(self, schema: pa.Schema) -> None:
        """Takes this for the stream's schema."""
        self._schema = schema
        if self._columns:
            indices = [schema.get_field_index(name) for name in self._columns if name in schema.names]
            self._options = pa.ipc.IpcReadOptions(included_fields=indices, use_threads=False)
            self._header = bytes(schema.serialize())

    def batches(self, content: bytes, first: bool) -> Iterator[tuple[Message, pa.RecordBatch]]:
        """The batches with their messages; damaged ones are left out. `first`: the content begins with the header."""
        if first:
            self._follow(self._expected)
            self._unsealed = True
        for message in split(content, self._unsealed):
            self._unsealed = not message.sealed
            piece = content[message.start : message.end]
            try:
                if pa.ipc.read_message(piece).type == "schema":
                    self._follow(pa.ipc.read_schema(pa.py_buffer(piece)))
                elif self._known() and _is_whole(batch := self._unpack(piece), message):
                    yield message, batch
            except (pa.ArrowException, UnicodeDecodeError, OSError):  # without a checksum only Arrow sees the damage
                continue

    def _unpack(self, piece: bytes) -> pa.RecordBatch:
        if not self._columns:
            return pa.ipc.read_record_batch(piece, self._schema)
        (batch,) = pa.ipc.open_stream(self._header + piece, options=self._options)
        return batch

    def _known(self) -> bool:
        types = {field.name: field.type for field in self._schema}
        return all(types.get(field.name, field.type) == field.type for field in self._expected)


def _is_whole(batch: pa.RecordBatch, message: Message) -> bool:
    """Whether a batch can be unpacked; one without a checksum is looked through, for Arrow trusts its offsets."""
    if not message.sealed:
        batch.validate(full=True)
        return batch.num_rows > 0 and not any(column.null_count for column in batch.columns)
    return True


def _sealed(content: bytes, start: int) -> Message | None:
    """The message that starts here, if it is whole and its checksum right."""
    if content[start : start + 4] != _CONTINUES or start + 8 > len(content):
        return None
    (size,) = struct.unpack_from("<i", content, start + 4)
    if not 0 < size <= _LONGEST_METADATA:
        return None
    seal = _SEAL.search(content, start + 8, start + 8 + size)
    if seal is None:
        return None
    end = start + int(seal[2], 16)
    if not seal.end() <= end <= len(content):
        return None
    view = memoryview(content)
    checksum = zlib.crc32(view[start : seal.start(1)])
    checksum = zlib.crc32(view[seal.end(1) : end], zlib.crc32(b"00000000", checksum))
    return Message(start, end, True) if checksum == int(seal[1], 16) else None


def one_by_one(stream: BinaryIO) -> Iterator[bytes]:
    """The messages with checksums of an open file, of which no more than the next is read at a time."""
    while True:
        piece = stream.read(8)
        size = struct.unpack_from("<i", piece, 4)[0] if len(piece) == 8 else 0
        piece += stream.read(min(max(size, 0), _LONGEST_METADATA))
        if seal := _SEAL.search(piece):
            piece += stream.read(max(int(seal[2], 16) - len(piece), 0))
        if _sealed(piece, 0) is None:  # the end, or damage
            break
        yield piece
    rest = piece + stream.read()
    for message in split(rest, unsealed=False):
        yield rest[message.start : message.end]


def _later(content: bytes, start: int) -> Message | None:
    """The first whole message somewhere behind damaged bytes."""
    while (start := content.find(_CONTINUES, start)) >= 0:
        if (message := _sealed(content, start)) is not None:
            return message
        start += 1
    return None


def _unsealed(content: bytes) -> Iterator[Message]:
    """The messages of a stream that was written without checksums: Arrow says where they are."""
    source = pa.BufferReader(content)
    while True:
        start = source.tell()
        try:
            pa.ipc.read_message(source)
        except (pa.ArrowException, EOFError, OSError, StopIteration):  # the end's mark, or a tail that was cut
            return
        yield Message(start, source.tell(), False)
