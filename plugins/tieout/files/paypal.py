"""PayPal's settlement report (STL): a CSV of typed rows, amounts unsigned and in hundredths for every currency.

RH and FH open report and file, SH opens the section of an account, CH names the columns, SB is a line, SF totals a
section and RF the report per currency, SC, RC and FF count lines. What the format promises and is held to:

- each currency that has lines is totalled by an SF or RF row: gross credits, gross debits, and the two fee totals
  (some reports give fee debits first, so the pair is compared in either order; some leave withdrawals to the bank,
  T04xx, out of the gross debits, so both totals are accepted);
- a report that opens with RH closes with RF or RC, one that opens with FH closes with FF; counts equal the lines.

Lines and withdrawals of a day do not come to zero: PayPal keeps a balance. The transaction detail report (TRR), which
looks alike and also lists denied and pending transactions, is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path

from tieout.files.batches import Batches
from tieout.files.lines import CsvFile, Header
from tieout.files.proof import Rejected, SettlementLine, Sink, Tally, bounded, count, refuse_amount
from tieout.money import AmountError, from_hundredths

PROCESSOR = "paypal"
ROW_TYPES = ("RH", "FH", "SH", "CH", "SB", "SF", "SC", "RF", "RC", "FF")
EVENT_CODE = "Transaction Event Code"
REQUIRED = (
    "Transaction ID", "Invoice ID", "PayPal Reference ID", EVENT_CODE, "Transaction Initiation Date",
    "Transaction Completion Date", "Transaction Debit or Credit", "Gross Transaction Amount",
    "Gross Transaction Currency", "Fee Debit or Credit", "Fee Amount", "Fee Currency", "Bank Reference ID",
)  # fmt: skip
DETAIL_REPORT_COLUMN = "Transactional Status"
WITHDRAWAL = "T04"
SIDES = {"CR": 1, "DR": -1}
TIMESTAMP = re.compile(r"(\d{4})/(\d{2})/(\d{2}) (\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})(\d{2})", re.ASCII)
OPENING = re.compile(r'"?(?:RH"?,"?\d{4}/|SH"?,"?\d{4}/|(?:RH|FH|SH|CH)\b[^\0]*Transaction Event Code)', re.ASCII)


@dataclass
class Totals:
    """Sums in hundredths of one currency: gross credits and debits, withdrawals among the debits, fees both ways."""

    gross_credit: int = 0
    gross_debit: int = 0
    withdrawn: int = 0
    fee_credit: int = 0
    fee_debit: int = 0


@dataclass
class Scope:
    """A section or the whole report: its lines' totals, what its footers say, and how many lines it has."""

    lines: int = 0
    found: dict[str, Totals] = field(default_factory=dict)
    footers: dict[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)

    def add(self, currency: str, gross: int, fee: int, is_withdrawal: bool) -> None:
        """Count one line; ``gross`` and ``fee`` in hundredths, positive for money or fee credited to us."""
        self.lines += 1
        totals = self.found.setdefault(currency, Totals())
        totals.gross_credit += max(gross, 0)
        totals.gross_debit += max(-gross, 0)
        totals.withdrawn += max(-gross, 0) if is_withdrawal else 0
        totals.fee_credit += max(fee, 0)
        totals.fee_debit += max(-fee, 0)

    def verify(self) -> bool:
        """Compare each footer with the lines; False if a currency has lines and no footer.

        :raises Rejected: a footer says something else than the lines.
        """
        for currency, (line, (credit, debit, *fees)) in self.footers.items():
            found = self.found.get(currency, Totals())
            checks = (
                ("gross credits", credit == found.gross_credit, credit, found.gross_credit),
                ("gross debits", debit in (found.gross_debit, found.gross_debit - found.withdrawn), debit,
                 found.gross_debit),
                ("fees", sorted(fees) == sorted((found.fee_credit, found.fee_debit)), fees,
                 [found.fee_credit, found.fee_debit]),
            )  # fmt: skip
            for what, agrees, said, summed in checks:
                if not agrees:
                    raise Rejected(
                        f"the footer's {what} in {currency} differ from the lines",
                        line=line,
                        expected=f"{said} hundredths by the footer",
                        found=str(summed),
                    )
        return self.found.keys() <= self.footers.keys()


def recognises(head: str) -> bool:
    """Whether the beginning of a text is that of a PayPal report of transactions."""
    return OPENING.match(head) is not None


def read(path: Path, sink: Sink) -> Tally:
    """Read one report; rows go to the sink as ``settlement_lines``, one batch a section and currency.

    :raises Rejected: a row cannot be read exactly, a footer is missing or differs, or it is not a settlement report.
    """
    with Tally("paypal.settlement", PROCESSOR, sink) as tally:
        _Report(tally).read(path)
    return tally


class _Report:
    """The state of one report while its rows go by."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.batches = Batches(tally)
        self.report = Scope()
        self.section: Scope | None = None
        self.unproven: list[Scope] = []
        self.columns: Header | None = None
        self.last_needed = 0
        self.account = ""
        self.period = ""
        self.seen: set[str] = set()

    def read(self, path: Path) -> None:
        source = CsvFile(path)
        line = 1
        for line, cells in source:
            self.row(line, cells, source.text, source.cut)
        self.finish(line)

    def row(self, line: int, cells: list[str], record: str, cut: bool) -> None:
        kind = cells[0]
        if kind not in ROW_TYPES:
            raise Rejected("unknown row type", line=line, column="row type", expected=", ".join(ROW_TYPES), found=kind)
        if "FF" in self.seen:
            raise Rejected("a row after the end of the file", line=line, expected="nothing after FF", found=kind)
        self.seen.add(kind)
        if kind == "SH":
            self.open_section(line, cells)
        elif kind == "CH":
            self.name_columns(line, cells)
            self.tally.headers[record] = None
        elif kind == "SB":
            self.body(line, cells, record, cut)
        elif kind in ("SF", "RF"):
            self.footer(line, cells)
        elif kind in ("SC", "RC", "FF"):
            self.check_count(line, cells, cut)

    def open_section(self, line: int, cells: list[str]) -> None:
        self.close_section()
        if len(cells) < 4 or not cells[3]:
            raise Rejected("section without account", line=line, column="SH", expected="period start, end, account")
        self.account = cells[3]
        self.period = _timestamp(cells[1], line, "SH period start").date().isoformat()
        self.tally.accounts.add(self.account)
        self.section = Scope()
        self.columns = None

    def close_section(self) -> None:
        if self.section is not None and not self.section.verify():
            self.unproven.append(self.section)
        self.section = None

    def name_columns(self, line: int, cells: list[str]) -> None:
        if DETAIL_REPORT_COLUMN in cells:
            raise Rejected(
                "a transaction detail report, not a settlement report",
                line=line,
                column=DETAIL_REPORT_COLUMN,
                expected="a settlement report (STL)",
                found="a transaction detail report (TRR), which also lists what never settled",
                remedy="have PayPal deliver the settlement report",
            )
        if self.section is None:
            raise Rejected("columns outside a section", line=line, expected="an SH row that names the account first")
        self.columns = Header(cells, line, REQUIRED)
        self.last_needed = max(self.columns.positions[name] for name in REQUIRED)

    def body(self, line: int, cells: list[str], record: str, cut: bool) -> None:
        if self.section is None or self.columns is None:
            raise Rejected("a line outside a section", line=line, expected="SH and CH rows before the first SB row")
        names = self.columns.names
        row = dict(zip(names[1:], self.columns.fitted(cells, line, self.last_needed, cut)[1:], strict=True))
        currency = row["Gross Transaction Currency"]
        gross = _signed(row, "Transaction Debit or Credit", "Gross Transaction Amount", line)
        fee = _signed(row, "Fee Debit or Credit", "Fee Amount", line) if row["Fee Amount"] else 0
        if row["Fee Amount"] and row["Fee Currency"] != currency:
            raise Rejected(
                "fee in another currency",
                line=line,
                column="Fee Currency",
                expected=currency,
                found=row["Fee Currency"],
            )
        code = row[EVENT_CODE]
        if not code:
            raise Rejected("value missing", line=line, column=EVENT_CODE)
        for scope in (self.section, self.report):
            scope.add(currency, gross, fee, code.startswith(WITHDRAWAL))
        gross_minor = _minor(gross, currency, line, "Gross Transaction Amount")
        fee_minor = -_minor(fee, currency, line, "Fee Amount")
        reference = row["Bank Reference ID"] if code.startswith(WITHDRAWAL) else ""
        settlement = SettlementLine(
            line_no=line,
            processor=PROCESSOR,
            processor_account=self.account,
            record_type=code,
            batch_reference=self.period,
            psp_reference=reference or row["Transaction ID"] or None,
            original_psp_reference=row["PayPal Reference ID"] or None,
            merchant_reference=row["Invoice ID"] or row.get("Custom Field") or None,
            gross_minor=gross_minor,
            gross_currency=currency,
            fee_minor=fee_minor,
            interchange_minor=None,
            scheme_fee_minor=None,
            net_minor=bounded(gross_minor - fee_minor, line, "Gross Transaction Amount"),
            net_currency=currency,
            exchange_rate=None,
            payment_method=None,
            occurred_at=_timestamp(row["Transaction Initiation Date"], line, "Transaction Initiation Date"),
            booked_at=_timestamp(row["Transaction Completion Date"], line, "Transaction Completion Date"),
            record=record,
        )
        self.tally.seen(settlement.booked_at.date())
        self.batches.add(settlement, is_payout=False)

    def footer(self, line: int, cells: list[str]) -> None:
        scope: Scope | None = self.report
        if cells[0] == "SF":
            scope = self.section
        if scope is None:
            raise Rejected("a section footer outside a section", line=line, expected="an SH row before it")
        if len(cells) < 6:
            raise Rejected("footer without totals", line=line, expected="currency and four totals")
        if cells[1] in scope.footers:
            raise Rejected("two footers for one currency", line=line, column=cells[0], found=cells[1])
        scope.footers[cells[1]] = (line, tuple(count(text, line, f"{cells[0]} totals") for text in cells[2:6]))

    def check_count(self, line: int, cells: list[str], cut: bool) -> None:
        kind = cells[0]
        if len(cells) < 2:
            raise Rejected("count missing", line=line, column=kind)
        scope = self.section if kind == "SC" else self.report
        if scope is None:
            raise Rejected("a section count outside a section", line=line, expected="an SH row before it")
        said = count(cells[1], line, kind)
        if said != scope.lines:
            reason = "the file ends within a line" if cut else "the count differs from the lines"
            raise Rejected(reason, line=line, column=kind, expected=f"{said} lines", found=str(scope.lines))

    def finish(self, line: int) -> None:
        self.close_section()
        self.batches.close()
        whole_report = self.report.verify()
        endings = (("FH", ("FF",)), ("RH", ("RF", "RC")))
        for opened, closings in endings:
            if opened in self.seen and not self.seen.intersection(closings):
                raise Rejected(
                    "the report is cut",
                    line=line,
                    expected=f"{' or '.join(closings)} to close {opened}",
                    found="the end",
                )
        if self.unproven and not whole_report:
            raise Rejected(
                "the report is cut",
                line=line,
                expected="an SF or RF row with the totals of each currency that has lines",
                found="none for " + ", ".join(sorted(self.unproven[0].found.keys() - self.unproven[0].footers.keys())),
            )
        if self.report.lines:
            self.tally.balance = "ok"


def _signed(row: dict[str, str], side_column: str, amount_column: str, line: int) -> int:
    side = SIDES.get(row[side_column])
    if side is None:
        raise Rejected("neither debit nor credit", line=line, column=side_column, expected="CR or DR",
                       found=row[side_column])  # fmt: skip
    return side * count(row[amount_column], line, amount_column)


def _minor(hundredths: int, currency: str, line: int, column: str) -> int:
    try:
        return from_hundredths(hundredths, currency)
    except AmountError as error:
        refuse_amount(error, line, column)


def _timestamp(text: str, line: int, column: str) -> datetime:
    try:
        return _instant(text)
    except ValueError:
        raise Rejected(
            "not a date and time", line=line, column=column, expected="YYYY/MM/DD HH:MM:SS +hhmm", found=text
        ) from None


@lru_cache(maxsize=1 << 12)
def _instant(text: str) -> datetime:
    match = TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError(text)
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    offset = timedelta(hours=int(match[8]), minutes=int(match[9])) * (1 if match[7] == "+" else -1)
    return datetime(year, month, day, hour, minute, second, tzinfo=timezone(offset))
