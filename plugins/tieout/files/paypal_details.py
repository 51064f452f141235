"""PayPal's transaction detail report (TRR): every transaction of a day, whether it moved the balance or not.

Rows and columns are those of the settlement report, with a status on each line: S settled, P pending, D denied,
V reversed. What moved the balance stands in the settlement report of the same day as well, which is the one that is
booked: this report is read, held to its own counts and totals, and none of its lines is sent on, so that no money
counts twice. Amounts are unsigned and in hundredths for every currency; times carry their offset.

SC, RC and FF count lines, and one of them must. SF and RF total each currency; whether denied and pending lines are
in, the specification leaves open, so the totals of all lines and those of the settled ones are both accepted.
(developer.paypal.com, Transaction Detail Report Specification.)
"""

from __future__ import annotations

from pathlib import Path

from tieout.files.lines import CsvFile, Header
from tieout.files.paypal import EVENT_CODE, OPENING, PROCESSOR, ROW_TYPES, SIDES, WITHDRAWAL, Scope
from tieout.files.proof import Rejected, Sink, Tally, count

STATUS = "Transactional Status"
STATUSES = frozenset("SPDVF")  # F: partially refunded
SETTLED = "S"
REQUIRED = (
    "Transaction ID", EVENT_CODE, "Transaction Debit or Credit", "Gross Transaction Amount",
    "Gross Transaction Currency", "Fee Debit or Credit", "Fee Amount", "Fee Currency", STATUS,
)  # fmt: skip


def recognises(head: str) -> bool:
    """Whether the beginning of a text is that of a transaction detail report."""
    return OPENING.match(head) is not None and STATUS in head


def read(path: Path, sink: Sink) -> Tally:
    """Read one report; nothing goes to the sink.

    :raises Rejected: a row cannot be read exactly, no count is there, or a count or total differs from the lines.
    """
    with Tally("paypal.transaction_detail", PROCESSOR, sink) as tally:
        _Report(tally).read(path)
    return tally


class _Report:
    """The state of one report while its rows go by: all lines and the settled ones, of the section and the whole."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.report = (Scope(), Scope())
        self.section: tuple[Scope, Scope] | None = None
        self.columns: Header | None = None
        self.last_needed = 0
        self.seen: set[str] = set()
        self.totalled = False

    def read(self, path: Path) -> None:
        source = CsvFile(path)
        line = 1
        for line, cells in source:
            self.row(line, cells, source.cut)
        self.close_section()
        self.verify(self.report)
        closing = "FF" if "FH" in self.seen else "RC" if "RH" in self.seen else "SC"
        if closing not in self.seen:
            raise Rejected("the report is cut", line=line, expected=f"{closing} to count its lines", found="the end")
        if self.report[0].lines and self.totalled:
            self.tally.balance = "ok"

    def row(self, line: int, cells: list[str], cut: bool) -> None:
        kind = cells[0]
        if kind not in ROW_TYPES:
            raise Rejected("unknown row type", line=line, column="row type", expected=", ".join(ROW_TYPES), found=kind)
        if "FF" in self.seen:
            raise Rejected("a row after the end of the file", line=line, expected="nothing after FF", found=kind)
        self.seen.add(kind)
        if kind == "SH":
            self.close_section()
            if len(cells) < 4 or not cells[3]:
                raise Rejected("section without account", line=line, column="SH", expected="period and account")
            self.tally.accounts.add(cells[3])
            self.section = (Scope(), Scope())
        elif kind == "CH":
            self.columns = Header(cells, line, REQUIRED)
            self.last_needed = max(self.columns.positions[name] for name in REQUIRED)
        elif kind == "SB":
            self.body(line, cells, cut)
        elif kind in ("SF", "RF"):
            self.footer(line, cells)
        elif kind in ("SC", "RC", "FF"):
            self.check_count(line, cells, cut)

    def close_section(self) -> None:
        if self.section is not None:
            self.verify(self.section)
        self.section = None

    def verify(self, scopes: tuple[Scope, Scope]) -> None:
        """Compare the footers with all lines, or else with the settled ones."""
        every, settled = scopes
        if not every.footers:
            return
        settled.footers = every.footers
        try:
            covered = every.verify()
        except Rejected as differs:
            try:
                covered = settled.verify()
            except Rejected:
                raise differs from None
        self.totalled = self.totalled or covered

    def body(self, line: int, cells: list[str], cut: bool) -> None:
        if self.section is None or self.columns is None:
            raise Rejected("a line outside a section", line=line, expected="SH and CH rows before the first SB row")
        fitted = self.columns.fitted(cells, line, self.last_needed, cut)
        row = dict(zip(self.columns.names, fitted, strict=True))
        if row[STATUS] not in STATUSES:
            raise Rejected("unknown status", line=line, column=STATUS, expected=", ".join(sorted(STATUSES)),
                           found=row[STATUS])  # fmt: skip
        gross = _signed(row, "Transaction Debit or Credit", "Gross Transaction Amount", line)
        fee = _signed(row, "Fee Debit or Credit", "Fee Amount", line) if row["Fee Amount"] else 0
        currency = row["Gross Transaction Currency"]
        if row["Fee Amount"] and row["Fee Currency"] != currency:
            raise Rejected("fee in another currency", line=line, column="Fee Currency", expected=currency,
                           found=row["Fee Currency"])  # fmt: skip
        self.tally.entries += 1
        for every, settled in (self.section, self.report):
            every.add(currency, gross, fee, row[EVENT_CODE].startswith(WITHDRAWAL))
            if row[STATUS] == SETTLED:
                settled.add(currency, gross, fee, row[EVENT_CODE].startswith(WITHDRAWAL))

    def footer(self, line: int, cells: list[str]) -> None:
        scopes = self.section if cells[0] == "SF" else self.report
        if scopes is None:
            raise Rejected("a section footer outside a section", line=line, expected="an SH row before it")
        if len(cells) < 6:
            raise Rejected("footer without totals", line=line, expected="currency and four totals")
        if cells[1] in scopes[0].footers:
            raise Rejected("two footers for one currency", line=line, column=cells[0], found=cells[1])
        scopes[0].footers[cells[1]] = (line, tuple(count(text, line, f"{cells[0]} totals") for text in cells[2:6]))

    def check_count(self, line: int, cells: list[str], cut: bool) -> None:
        scopes = self.section if cells[0] == "SC" else self.report
        if scopes is None or len(cells) < 2:
            raise Rejected("a count out of place", line=line, column=cells[0], expected="lines before it, and a number")
        said = count(cells[1], line, cells[0])
        if said != scopes[0].lines:
            reason = "the file ends within a line" if cut else "the count differs from the lines"
            raise Rejected(reason, line=line, column=cells[0], expected=f"{said} lines", found=str(scopes[0].lines))


def _signed(row: dict[str, str], side_column: str, amount_column: str, line: int) -> int:
    side = SIDES.get(row[side_column])
    if side is None:
        raise Rejected("neither debit nor credit", line=line, column=side_column, expected="CR or DR",
                       found=row[side_column])  # fmt: skip
    return side * count(row[amount_column], line, amount_column)
