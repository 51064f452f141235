"""Blocks of rows as tests look at them: one named tuple a row, decimals as decimals again."""

from __future__ import annotations

from collections import namedtuple
from decimal import Decimal
from typing import Any

import pyarrow as pa

from tieout.files.columns import value_types
from tieout.files.proof import COLUMNS, ROW_TYPES

NAMED: dict[str, Any] = {table: namedtuple(table, columns) for table, columns in COLUMNS.items()}  # type: ignore[misc]


def rows_of(table: str, block: pa.RecordBatch) -> list[Any]:
    """The rows of a block that a reader gave."""
    columns = block.to_pydict()
    for name, kind in value_types(ROW_TYPES[table]).items():
        if kind is Decimal:
            columns[name] = [None if text is None else Decimal(text) for text in columns[name]]
    return list(map(NAMED[table]._make, zip(*columns.values(), strict=True)))
