"""Plain text of a CSV, whose lines are its records: split into columns many at a time.

It is plain where Python's csv module would find the same: whole lines with the same line end, none of them blank, and
quotation marks only around a whole cell. Anything else is left to that module.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

_LINE_END, _RETURN, _QUOTE = map(ord, "\n\r\"")
_BINARY, _TEXT = pa.binary(), pa.string()


class Columns(NamedTuple):
    """Records that follow each other, by column: the line each begins on, cells as asked for, and its text."""

    lines: pa.Int64Array
    cells: tuple[pa.StringArray, ...]
    texts: pa.StringArray

    def slice(self, start: int, count: int) -> Columns:
        """Some of the records."""
        return Columns(
            self.lines.slice(start, count),
            tuple(cells.slice(start, count) for cells in self.cells),
            self.texts.slice(start, count),
        )


def columns_of(
    text: str, first_line: int, delimiter: str, quoted: bool, width: int, wanted: Sequence[int]
) -> Columns | None:
    """The cells of some columns of plain text; None where it is not plain or a record is not so many cells wide.

    :param wanted: positions of the columns, none below 0; a position of ``width`` is a column of blanks.
    """
    data = text.encode()
    ends = _line_ends(text, np.frombuffer(data, np.uint8), delimiter, quoted)
    if ends is None:
        return None
    names = list(map(str, range(width)))
    read = sorted({position for position in wanted if position < width})
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter, quote_char='"' if quoted else False, ignore_empty_lines=False
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, _TEXT), include_columns=[names[position] for position in read],
                strings_can_be_null=False, check_utf8=False,
            ),
        )  # fmt: skip
    except pa.ArrowInvalid:  # a record of another width
        return None
    count = len(ends)
    if table.num_rows != count:
        return None
    by_position = {position: table.column(at).combine_chunks() for at, position in enumerate(read)}
    by_position[width] = pa.repeat("", count)
    offsets = np.zeros(count + 1, np.int32)
    offsets[1:] = ends + 1
    lines = pa.Array.from_buffers(_BINARY, count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    end_of_line = -2 if text.endswith("\r\n") else -1
    return Columns(
        pa.array(np.arange(first_line, first_line + count)),
        tuple(by_position[position] for position in wanted),
        pc.binary_slice(lines, 0, end_of_line).view(_TEXT),
    )


def _line_ends(text: str, data: np.ndarray, delimiter: str, quoted: bool) -> np.ndarray | None:
    """Where the lines of a text end; None where it is not plain."""
    if not text.endswith("\n") or not delimiter.isascii() or "\0" in text or text.startswith("\ufeff"):
        return None
    ends = np.flatnonzero(data == _LINE_END)
    lengths = np.diff(ends, prepend=-1)
    returns = text.count("\r")
    if returns not in (0, len(ends)) or (returns and returns != text.count("\r\n")):
        return None
    if lengths.min() <= (2 if returns else 1) or lengths.max() > csv.field_size_limit():
        return None
    if quoted and '"' in text:
        marks = np.flatnonzero(data == _QUOTE)
        if len(marks) % 2:
            return None
        opens, closes = marks[0::2], marks[1::2]
        before = data[opens - 1]  # of the first mark of all, that of the last line end
        after = data[closes + 1]
        comma = ord(delimiter)
        whole = ((before == comma) | (before == _LINE_END)) & (
            (after == comma) | (after == _LINE_END) | (after == _RETURN)
        )
        if not whole.all() or (np.searchsorted(ends, opens) != np.searchsorted(ends, closes)).any():
            return None
    return ends
