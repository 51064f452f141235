"""Text and CSV out of foreign files: decoded strictly, one bounded line at a time, with flat memory."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tieout.files.proof import Rejected

LINE_LIMIT = 1 << 20  # characters; the widest real report line is a few thousand
WHOLE_FILE_LIMIT = 128 << 20  # bytes; files that are held in memory: a bank's statements


class CsvFile:
    """The records of a CSV file in the encoding that its format declares, streamed.

    ``quoted`` is false for formats whose quotation marks are text. ``cut`` turns true when the line read last had no
    line end: the file may have been cut there.
    """

    def __init__(self, path: Path, *, encoding: str = "utf-8", delimiter: str = ",", quoted: bool = True) -> None:
        self.path = path
        self.encoding = encoding
        self.cut = False
        self._raw: list[str] = []
        self._delimiter = delimiter
        self._quoted = quoted
        self._line = 0

    @property
    def text(self) -> str:
        """The record given last as it stood in the file, over all its lines, without the last line end."""
        return "".join(self._raw).removesuffix("\n").removesuffix("\r")

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Each record with the number of the line it begins on; blank lines are skipped.

        :raises Rejected: the file is not in its encoding, has a NUL or an endless line, or breaks CSV's quoting.
        """
        records = csv.reader(
            self._lines(),
            strict=True,
            delimiter=self._delimiter,
            quoting=csv.QUOTE_MINIMAL if self._quoted else csv.QUOTE_NONE,
        )
        begins = 1
        try:
            for record in records:
                if record:
                    yield begins, record
                begins = records.line_num + 1
                self._raw.clear()
        except csv.Error as error:
            raise Rejected("broken CSV", line=begins, found=str(error)) from None
        except UnicodeDecodeError as error:
            raise Rejected(
                f"not {self.encoding.upper()}",
                line=self._line + 1,
                expected=f"{self.encoding.upper()} text",
                found=repr(error.object[error.start : error.end]),
            ) from None

    def _lines(self) -> Iterator[str]:
        with self.path.open(encoding=_without_mark(self.encoding), newline="") as stream:
            while line := stream.readline(LINE_LIMIT):
                self._line += 1
                self.cut = not line.endswith(("\n", "\r"))
                if self.cut and len(line) == LINE_LIMIT:
                    raise Rejected("endless line", line=self._line, expected=f"lines below {LINE_LIMIT} characters")
                if "\0" in line:
                    raise Rejected("NUL in text", line=self._line, expected="text without NUL characters")
                self._raw.append(line)
                yield line


class Header:
    """The columns of a CSV report, mapped by name: any order, further columns welcome, no name twice."""

    def __init__(self, names: Sequence[str], line: int, required: Iterable[str]) -> None:
        self.names = tuple(name.strip() for name in names)
        self.line = line
        repeated = sorted({name for name in self.names if name and self.names.count(name) > 1})
        if repeated:
            raise Rejected("column twice in the header", line=line, column=repeated[0], expected="each column once")
        missing = [name for name in required if name not in self.names]
        if missing:
            raise Rejected(
                "column missing from the header",
                line=line,
                column=missing[0],
                expected=", ".join(missing),
                remedy="have the sender add the column to the report, and drop it into the landing again",
            )
        self.positions = {name: position for position, name in enumerate(self.names)}
        self._nameless = [position for position, name in enumerate(self.names) if not name]

    def fitted(self, cells: list[str], line: int, last_needed: int, cut: bool) -> list[str]:
        """The record's cells, one a column: blank trailing cells may be missing or be too many.

        ``last_needed`` is the position of the rightmost column that is read. Where the file may be cut, a record
        must be whole, and its last cell blank and one that nobody reads.

        :raises Rejected: cells are missing or left over.
        """
        width = len(self.names)
        if cut and (len(cells) < width or cells[-1] or last_needed >= width - 1):
            raise Rejected(
                "the file ends within a line",
                line=line,
                expected=f"{width} cells and a line end",
                found=f"{len(cells)} cells",
            )
        nameless = any(cells[position] for position in self._nameless if position < len(cells))
        if len(cells) > width or nameless:
            # A decimal comma, for one, moves every later value into the next column.
            if nameless or any(cells[width:]):
                raise Rejected(
                    "cells beyond the header", line=line, expected=f"{width} cells", found=f"{len(cells)} cells"
                )
            return cells[:width]
        if len(cells) <= last_needed:
            raise Rejected(
                "cells missing", line=line, expected=f"at least {last_needed + 1} cells", found=f"{len(cells)} cells"
            )
        return cells + [""] * (width - len(cells))


def _without_mark(encoding: str) -> str:
    return "utf-8-sig" if encoding == "utf-8" else encoding


def whole_text(path: Path) -> str:
    """A bank file's text: UTF-8, or Latin-1 where it is not (amounts and dates are ASCII in both).

    :raises Rejected: the file is larger than a bank file may be, or has a NUL.
    """
    data = whole_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if "\0" in text:
        raise Rejected(
            "NUL in text", line=text.count("\n", 0, text.index("\0")) + 1, expected="text without NUL characters"
        )
    return text


def whole_bytes(path: Path, limit: int = WHOLE_FILE_LIMIT) -> bytes:
    """A file's bytes, if it is small enough to be held in memory.

    :raises Rejected: it is not.
    """
    size = path.stat().st_size
    if size > limit:
        raise Rejected("file too large", expected=f"at most {limit} bytes", found=f"{size} bytes")
    return path.read_bytes()
