"""The pages of a Parquet file: what size each claims to have unpacked, read from its header.

The file's footer names sizes too, but pyarrow makes room for what the pages claim, up to 2 GB each, whatever the footer
says. Where to find the pages is read here as well: asked for a damaged footer's columns, pyarrow can end the process.
Source: parquet.thrift and Thrift's compact protocol.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

HEADER, FOOTER = 1 << 20, 1 << 24  # bytes that a page's header and a file's footer may take
LARGEST = (1 << 31) - 1
GROUPS, COLUMNS, METADATA, PACKED, DATA, DICTIONARY = 4, 1, 3, 7, 9, 11  # the footer's fields that matter here


def unpacked(file: BinaryIO) -> int:
    """Bytes of all pages of an open Parquet file, unpacked, as they claim. Raises ValueError if it is malformed."""
    end = file.seek(0, os.SEEK_END) - 8
    file.seek(max(end, 0))
    length = int.from_bytes(file.read(4), "little")
    if not 0 < length <= min(end, FOOTER):
        raise ValueError("its footer is malformed")
    file.seek(end - length)
    total = 0
    try:
        for group in _Thrift(file.read(length)).struct()[GROUPS]:
            for column in group[COLUMNS]:
                described = column[METADATA]
                first = min(described[DATA], described.get(DICTIONARY) or described[DATA])
                total += sum(_sizes(file, first, described[PACKED]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("its footer is malformed") from error
    return total


def _sizes(file: BinaryIO, first: int, length: int) -> Iterator[int]:
    """The pages' unpacked sizes in the part of ``file`` from byte ``first``."""
    at = first
    while at < first + length:
        file.seek(at)
        header = _Thrift(file.read(HEADER))
        fields = header.struct()
        size, packed = fields[2], fields[3]
        if not (0 <= size <= LARGEST and 0 <= packed <= LARGEST):
            raise ValueError(f"a page claims to have {size} bytes, {packed} packed")
        yield size
        at += header.at + packed


class _Thrift:
    """Reads Thrift's compact protocol: structs as dicts from field to value; texts and doubles are left out."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.depth = data, 0, 0

    def struct(self) -> dict[int, Any]:
        found, number = {}, 0
        self.depth += 1
        if self.depth > 20:
            raise ValueError("it is nested too deeply")
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._whole()
            kind = head & 15
            found[number] = kind == 1 if kind in (1, 2) else self._value(kind)
        self.depth -= 1
        return found

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise ValueError("it ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def _leave_out(self, count: int) -> None:
        self.at += count
        if self.at > len(self.data):
            raise ValueError("it ends too early")

    def _varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
        raise ValueError("it has a number of too many bytes")

    def _whole(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _value(self, kind: int) -> Any:
        match kind:
            case 1 | 2 | 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._whole()
            case 7:
                self._leave_out(8)
            case 8:
                self._leave_out(self._varint())
            case 9 | 10:
                head = self._byte()
                count = self._varint() if head >> 4 == 15 else head >> 4
                return [self._value(head & 15) for _ in range(count)]
            case 12:
                return self.struct()
            case _:
                raise ValueError("it holds an unknown kind of field")
        return None
