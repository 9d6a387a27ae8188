"""What the pages of a Parquet file claim, found without pyarrow."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wsnas.errors import WsnasError
from wsnas.pages import unpacked
from wsnas.table import Table


def written(columns: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    described = {"wsnas": json.dumps({"space": "toy", "about": {}})}
    pq.write_table(pa.table(columns).replace_schema_metadata(described), buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"version": "1.0", "compression": "snappy"},
        {"data_page_version": "2.0", "compression": "zstd"},
        {"write_page_index": True, "write_page_checksum": True},
        {"row_group_size": 300, "data_page_size": 500, "dictionary_pagesize_limit": 10},
        {"use_dictionary": False, "write_statistics": False, "compression": "none"},
    ],
    ids=str,
)
def test_the_sizes_are_the_writers(options: dict[str, Any]) -> None:
    """The footer counts the pages with their headers; the size of a page of numbers without dictionary is known."""
    columns = {"arch": [f"a{i % 50}" for i in range(1000)], "x": np.arange(1000.0), "more": [[1.5]] * 1000}
    content = written(columns, **options)
    metadata = pq.read_metadata(io.BytesIO(content))
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    total = sum(group.column(i).total_uncompressed_size for group in groups for i in range(metadata.num_columns))
    pages = total / unpacked(io.BytesIO(content))
    assert 1 < pages < (2 if "row_group_size" in options else 1.05)
    plain = written({"x": np.arange(1000.0)}, use_dictionary=False, data_page_version="2.0")
    assert 8000 <= unpacked(io.BytesIO(plain)) < 8010  # the definition levels are one run


def varint(value: int, length: int) -> bytes:
    """Of so many bytes, more than it needs."""
    return bytes(value >> 7 * i & 127 | (128 if i < length - 1 else 0) for i in range(length))


def test_a_page_larger_than_the_footer_says_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole page would be unpacked, however little the footer admits."""
    names = ["a" * 4000 + str(i) for i in range(100)]
    content = written({"arch": names, "d/test/8/0": np.full(100, 90.0)}, use_dictionary=False, compression="zstd")
    metadata = pq.read_metadata(io.BytesIO(content))
    group = metadata.row_group(0)
    for size in {group.total_byte_size, *(group.column(i).total_uncompressed_size for i in range(2))}:
        honest = varint(2 * size, len(f"{2 * size:b}") // 7 + (len(f"{2 * size:b}") % 7 > 0))
        assert content.count(honest) == 1
        content = content.replace(honest, varint(2, len(honest)))
    (tmp_path / "t.parquet").write_bytes(content)
    assert pq.read_metadata(tmp_path / "t.parquet").row_group(0).total_byte_size == 1
    assert unpacked(io.BytesIO(content)) > 400_000
    assert len(Table.load(tmp_path / "t.parquet")) == 100
    monkeypatch.setattr("wsnas.table.CELLS", 20_000)
    with pytest.raises(WsnasError, match="more than a table can have"):
        Table.load(tmp_path / "t.parquet")


def test_damage_is_a_value_error_at_once() -> None:
    content = written({"arch": ["a", "b"], "x": [1.0, 2.0]})
    rng, refused = np.random.default_rng(0), 0
    for i in range(3000):
        bad = bytearray(content)
        bad[int(rng.integers(len(bad)))] = int(rng.integers(256))
        bad = bad[: int(rng.integers(len(bad)))] if i % 10 == 0 else bad
        try:
            unpacked(io.BytesIO(bad))
        except ValueError:
            refused += 1
    assert 300 < refused < 3000


def test_a_list_that_claims_more_than_there_is_ends(tmp_path: Path) -> None:
    """Of numbers or texts that are left out; it once counted to 2**63."""
    for kind in (7, 8):
        footer = bytes([0x49, 0xF0 | kind, *[0xFF] * 8, 0x7F, 5, 5, 5])
        content = b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
        with pytest.raises(ValueError, match="ends too early"):
            unpacked(io.BytesIO(content))
