"""Text and CSV out of foreign files: decoded strictly, one bounded line at a time, with flat memory."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from io import StringIO
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from tieout.files.plain import Columns, columns_of
from tieout.files.proof import Rejected

LINE_LIMIT = 1 << 20  # characters; the widest real report line is a few thousand
WHOLE_FILE_LIMIT = 128 << 20  # bytes; files that are held in memory: a bank's statements
CHUNK_BYTES = 1 << 20
# Records are worked on by the block: enough of them to spread what a block costs, few enough to stay in the cache.
BLOCK_RECORDS = 1024

Made = TypeVar("Made")


class Block(NamedTuple):
    """Records that follow each other, with the line each begins on and the text each had in the file.

    ``cut`` says that the last one had no line end: the file may have been cut there.
    """

    lines: Sequence[int]
    records: list[list[str]]
    texts: list[str]
    cut: bool


class CsvFile:
    """The records of a CSV file in the encoding that its format declares, streamed; blank lines are skipped.

    ``quoted`` is false for formats whose quotation marks are text. It can be read by records, or from where that
    stopped by :meth:`blocks`. ``cut`` and ``text`` belong to the record given last: whether it had no line end, so
    that the file may have been cut there, and the record as it stood over all its lines, without the last line end.
    """

    def __init__(self, path: Path, *, encoding: str = "utf-8", delimiter: str = ",", quoted: bool = True) -> None:
        self.path = path
        self.encoding = encoding
        self.cut = False
        self.text = ""
        self._raw: list[str] = []
        self._delimiter = delimiter
        self._quoted = quoted
        self._begins = 1
        self._unended = False
        self._read = self._texts()
        self._given_back: list[tuple[str, Rejected | None]] = []
        self._problem: Rejected | None = None
        self._failure: Rejected | csv.Error | None = None
        self._records = self._reader(self._lines())

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Each record with the number of the line it begins on.

        :raises Rejected: the file is not in its encoding, has a NUL or an endless line, or breaks CSV's quoting.
        """
        for block in self.blocks():
            last = len(block.records) - 1
            for position, (line, record) in enumerate(zip(block.lines, block.records, strict=True)):
                self.cut = block.cut and position == last
                self.text = block.texts[position]
                yield line, record

    def header(self) -> tuple[int, list[str]]:
        """The first record, with the number of its line; ``cut`` and ``text`` are its own.

        :raises Rejected: as above, or there is no record.
        """
        for block in self.blocks(1):
            self.cut, self.text = block.cut, block.texts[0]
            return block.lines[0], block.records[0]
        raise Rejected("no line with text", expected="a header line", found="blank lines")

    def columns(self, width: int, wanted: Sequence[int]) -> Iterator[Columns | Block]:
        """The records by column where their text is plain and they are so wide, else by the block.

        :param wanted: as :func:`tieout.files.plain.columns_of`.
        :raises Rejected: as :meth:`blocks`.
        """
        self._put_back()
        while True:
            if not (self._raw or self._given_back or self._problem) and (read := next(self._read, None)):
                self._given_back.append(read)
            size = len(self._raw)
            if not self._raw and self._given_back:
                text, problem = self._given_back[-1]
                if problem is None:
                    found = columns_of(text, self._begins, self._delimiter, self._quoted, width, wanted)
                    if found is not None:
                        self._given_back.pop()
                        self._begins += len(found.lines)
                        yield found
                        continue
                size = text.count("\n") + 1
            # No further than this text goes: the next may be plain.
            block = self._block(min(size or 1, BLOCK_RECORDS))
            if block is None:
                return
            yield block

    def _put_back(self) -> None:
        """Have the lines of which no record was given read anew."""
        if self._raw or self._problem:
            self._given_back.append(("".join(self._raw), self._problem))
            self._raw.clear()
            self._problem = None
            self._records = self._reader(self._lines())

    def blocks(self, size: int = BLOCK_RECORDS) -> Iterator[Block]:
        """The records by the block of at most ``size``.

        :raises Rejected: as above, after the records before the break were given.
        """
        while block := self._block(size):
            yield block

    def _block(self, size: int) -> Block | None:
        while self._failure is None:
            records: list[list[str]] = []
            consumed = self._records.line_num
            try:
                records.extend(islice(self._records, size))
            except (Rejected, csv.Error) as error:
                self._failure = error
            if not records:
                break
            consumed = self._records.line_num - consumed
            lines: Sequence[int]
            if self._failure is None and consumed == len(records):
                lines = range(self._begins, self._begins + consumed)
                texts = [text.rstrip("\r\n") for text in self._raw[:consumed]]
            else:
                lines, texts, consumed = self._told_apart(len(records))
            del self._raw[:consumed]
            self._begins += consumed
            cut = self._unended and not self._raw
            if not all(records):
                kept = [position for position, record in enumerate(records) if record]
                lines, texts = [lines[position] for position in kept], [texts[position] for position in kept]
                records = [records[position] for position in kept]
            if records:
                return Block(lines, records, texts, cut)
        if isinstance(self._failure, csv.Error):
            raise Rejected("broken CSV", line=self._begins, found=str(self._failure))
        if self._failure is not None:
            raise self._failure
        return None

    def _told_apart(self, count: int) -> tuple[list[int], list[str], int]:
        """Where records begin and what text is whose, where some go over several lines; and how many lines all have."""
        again = self._reader(iter(self._raw))
        lines, texts = [], []
        for _ in range(count):
            before = again.line_num
            next(again)
            lines.append(self._begins + before)
            texts.append("".join(self._raw[before : again.line_num]).removesuffix("\n").removesuffix("\r"))
        return lines, texts, again.line_num

    def _reader(self, lines: Iterator[str]) -> Any:
        return csv.reader(
            lines,
            strict=True,
            delimiter=self._delimiter,
            quoting=csv.QUOTE_MINIMAL if self._quoted else csv.QUOTE_NONE,
        )

    def _lines(self) -> Iterator[str]:
        """The lines as they stand, with their ends; each is remembered until the record that it is part of is given."""
        while read := self._given_back.pop() if self._given_back else next(self._read, None):
            text, problem = read
            # The line ends of a file opened for csv: a lone carriage return is one, too.
            lines = StringIO(text, newline="").readlines()
            if "\0" in text:
                del lines[next(position for position, line in enumerate(lines) if "\0" in line) :]
                problem = Rejected("NUL in text", expected="text without NUL characters")
            self._raw += lines
            self._problem = problem
            last = self._begins + len(self._raw)
            yield from lines
            if problem is not None:
                problem.line = last
                raise problem

    def _texts(self) -> Iterator[tuple[str, Rejected | None]]:
        """Whole lines, many at a time; with the last ones comes what is wrong with the line after them."""
        decoder = codecs.getincrementaldecoder(_without_mark(self.encoding))()
        rest = ""
        with self.path.open("rb") as stream:
            while data := stream.read(CHUNK_BYTES):
                problem = None
                try:
                    text = rest + decoder.decode(data)
                except UnicodeDecodeError as error:
                    text = rest + error.object[: error.start].decode(self.encoding, errors="replace")
                    problem = self._undecoded(error)
                # A carriage return at the end may be the first half of a line end.
                ends = max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1
                rest = text[ends:]
                if problem is None and len(rest) > LINE_LIMIT:
                    problem = Rejected("endless line", expected=f"lines below {LINE_LIMIT} characters")
                if ends or problem is not None:
                    yield text[:ends], problem
        try:
            rest += decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            yield "", self._undecoded(error)
        if rest:
            self._unended = not rest.endswith(("\n", "\r"))
            yield rest, None

    def _undecoded(self, error: UnicodeDecodeError) -> Rejected:
        name = self.encoding.upper()
        found = repr(error.object[error.start : error.end])
        return Rejected(f"not {name}", expected=f"{name} text", found=found)


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

    def picker(self, names: Sequence[str]) -> Callable[[list[str]], tuple[str, ...]]:
        """Gives a record's cells of these columns, blank for a column that the report does not have."""
        width = len(self.names)
        positions = [self.positions.get(name, width) for name in names]
        pick: Callable[[list[str]], tuple[str, ...]] = itemgetter(*positions)
        return pick if width not in positions else lambda cells: pick([*cells, ""])

    def rows(self, block: Block, needed: Iterable[str], read: Iterable[str]) -> Iterable[tuple[int, list[str], str]]:
        """Line, cells and text of each record of a block, one cell a column.

        :param needed: columns whose cells must be there.
        :param read: columns whose cells are read where they are there.
        :raises Rejected: while they are taken, as :meth:`fitted`.
        """
        width = len(self.names)
        if not block.cut and not self._nameless and set(map(len, block.records)) == {width}:
            return zip(block.lines, block.records, block.texts, strict=True)
        last_needed, last_read = (
            max(self.positions.get(name, 0) for name in names) for names in (needed, [*needed, *read])
        )
        last = len(block.records) - 1

        def fitted(position: int, cells: list[str]) -> list[str]:
            cut = block.cut and position == last
            return self.fitted(cells, block.lines[position], last_read if cut else last_needed, cut)

        return zip(block.lines, map(fitted, range(last + 1), block.records), block.texts, strict=True)

    def made(
        self,
        block: Block,
        needed: Iterable[str],
        read: Iterable[str],
        make: Callable[[Sequence[tuple[int, list[str], str]]], list[Made]],
    ) -> Iterator[list[Made]]:
        """What ``make`` makes of the :meth:`rows` of a block all at once; where it refuses that, of one after another.

        So the first wrong record is the one that is named, and what stands before it is counted.
        """
        together: list[list[Made]] = []
        with suppress(Rejected):
            together.append(make(list(self.rows(block, needed, read))))
        yield from together or (make([row]) for row in self.rows(block, needed, read))

    def made_by_column(
        self,
        source: CsvFile,
        needed: Iterable[str],
        read: Iterable[str],
        make: Callable[[Columns], Made],
    ) -> Iterator[Made]:
        """What ``make`` makes of the columns of a report, those needed and then those read, block by block.

        Where it refuses a block, of its halves, down to the one record: so the first wrong one is named, and what
        stands before it is counted.
        """
        names = (*needed, *read)
        pick = self.picker(names)
        width = len(self.names)
        wanted = [self.positions.get(name, width) for name in names]

        def make_rows(rows: Sequence[tuple[int, list[str], str]]) -> list[Made]:
            numbers, records, texts = zip(*rows, strict=True)
            cells = tuple(pa.array(values, pa.string()) for values in zip(*map(pick, records), strict=True))
            return [make(Columns(pa.array(numbers, pa.int64()), cells, pa.array(texts, pa.string())))]

        for found in source.blocks() if self._nameless else source.columns(width, wanted):
            if isinstance(found, Columns):
                yield from _made_in_halves(found, make)
            else:
                for made in self.made(found, needed, read, make_rows):
                    yield from made

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


def _made_in_halves(columns: Columns, make: Callable[[Columns], Made]) -> Iterator[Made]:
    try:
        made = make(columns)
    except Rejected:
        count = len(columns.lines)
        if count == 1:
            raise
        yield from _made_in_halves(columns.slice(0, count // 2), make)
        yield from _made_in_halves(columns.slice(count // 2, count - count // 2), make)
    else:
        yield made


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
