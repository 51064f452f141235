"""The settlement batches of a processor's report: do the lines of each add up to its payout?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter

from tieout import money
from tieout.files.proof import Document, Rejected, SettlementLine, Tally, sums_by

_Batch = tuple[str, str, str]
_BATCH = attrgetter("processor_account", "batch_reference", "net_currency")
_CURRENCY, _NET = attrgetter("net_currency"), attrgetter("net_minor")


class Batches:
    """Sums of net per (account, batch, net currency); a batch that has a payout record must come to zero with it.

    Each batch is a document, except where the reader gives the document of a line with it.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._sums: dict[_Batch, int] = {}
        self._payout_lines: dict[_Batch, int] = {}

    def add(
        self, line: SettlementLine, is_payout: bool, document: Document | None = None, known_by: str | None = None
    ) -> None:
        """Send a line on and count it into its batch; lines outside any batch are only sent on."""
        self.add_all(
            [line], [line.line_no] if is_payout else (), [document] if document else None,
            [known_by] if known_by else None,
        )  # fmt: skip

    def add_all(
        self,
        lines: Sequence[SettlementLine],
        payouts: Collection[int],
        documents: Sequence[Document | None] | None = None,
        known_by: Sequence[str] | None = None,
    ) -> None:
        """:meth:`add` for lines that follow each other; ``payouts`` are the numbers of those that pay out."""
        if not lines:
            return
        tally = self._tally
        tally.entries += len(lines)
        for currency, (_, minor) in sums_by(_CURRENCY, _NET, lines):
            tally.add(currency, minor)
        batches: dict[_Batch, Document] = {}
        for key, (_, minor) in sums_by(_BATCH, _NET, lines):
            account, batch, currency = key
            if batch is not None:
                self._sums[key] = self._sums.get(key, 0) + minor
                if documents is None:
                    batches[key] = tally.document("settlement_batch", tally.origin, account, batch, currency)
        tally.statements = len(self._sums)
        for line in lines if payouts else ():
            if line.line_no in payouts and line.batch_reference is not None:
                self._payout_lines[line.processor_account, line.batch_reference, line.net_currency] = line.line_no
        tally.emit_all("settlement_lines", lines, documents or list(map(batches.get, map(_BATCH, lines))), known_by)

    def close(self) -> None:
        """Prove the batches that have a payout record; the file is proven when every batch has one.

        :raises Rejected: the lines of a batch do not come to zero with its payout (SPLIT_MISMATCH).
        """
        tally = self._tally
        off = {key: self._sums[key] for key in self._payout_lines if self._sums[key]}
        if not off:
            # One batch that was paid out says nothing of another beside it.
            tally.balance = "ok" if self._sums and self._sums.keys() == self._payout_lines.keys() else "-"
            return
        key = next(iter(off))
        account, batch, currency = key
        difference = money.to_text(-off[key], currency, provider=tally.origin)
        tally.balance = f"off {difference}"
        raise Rejected(
            f"SPLIT_MISMATCH: lines of batch {batch} of {account} do not come to zero with its payout in {currency}",
            line=self._payout_lines[key],
            expected="a sum of 0",
            found=money.to_text(off[key], currency, provider=tally.origin),
        )
