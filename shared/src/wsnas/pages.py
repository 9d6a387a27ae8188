"""The pages of a Parquet file: what size each claims to have unpacked, read from its header.

The file's footer names sizes too, but pyarrow makes room for what the pages claim, up to 2 GB each, whatever the footer
says. Source: parquet.thrift and Thrift's compact protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow.parquet as pq

HEADER = 1 << 20  # bytes that a page's header may take; it holds the least and the largest value
SMALLEST, LARGEST = 0, (1 << 31) - 1


def unpacked(file: BinaryIO, metadata: pq.FileMetaData) -> int:
    """Bytes of all pages of an open Parquet file, unpacked, as they claim. Raises ValueError if one is malformed."""
    total = 0
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            first = column.data_page_offset
            if column.has_dictionary_page:
                first = min(first, column.dictionary_page_offset)
            total += sum(_sizes(file, first, column.total_compressed_size))
    return total


def _sizes(file: BinaryIO, first: int, length: int) -> Iterator[int]:
    """The pages' unpacked sizes in the part of ``file`` from byte ``first``."""
    at = first
    while at < first + length:
        file.seek(at)
        header = _Header(file.read(HEADER))
        fields = header.struct()
        size, packed = fields.get(2, -1), fields.get(3, -1)
        if not (SMALLEST <= size <= LARGEST and SMALLEST <= packed <= LARGEST):
            raise ValueError(f"a page claims to have {size} bytes, {packed} packed")
        yield size
        at += header.at + packed


class _Header:
    """Thrift's compact protocol, of which only the whole numbers of the outermost struct are kept."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise ValueError("a page's header ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a number of a page's header is too long")

    def whole(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self, depth: int = 0) -> dict[int, int]:
        """Field -> number, for the fields that hold one."""
        if depth > 8:
            raise ValueError("a page's header is nested")
        found, number = {}, 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.whole()
            if (kind := head & 15) in (4, 5, 6):
                found[number] = self.whole()
            elif kind not in (1, 2):  # true and false are kinds
                self._skip(kind, depth)
        return found

    def _skip(self, kind: int, depth: int) -> None:
        if kind in (1, 2, 3):
            self.at += 1
        elif kind in (4, 5, 6):
            self.varint()
        elif kind == 7:
            self.at += 8
        elif kind == 8:
            length = self.varint()
            self.at += length
        elif kind in (9, 10):
            head = self.byte()
            for _ in range(self.varint() if head >> 4 == 15 else head >> 4):
                self._skip(head & 15, depth)
        elif kind == 12:
            self.struct(depth + 1)
        else:
            raise ValueError("a page's header holds an unknown kind of field")
