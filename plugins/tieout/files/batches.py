"""The settlement batches of a processor's report: do the lines of each add up to its payout?"""

from __future__ import annotations

from tieout import money
from tieout.files.proof import Document, Rejected, SettlementLine, Tally


class Batches:
    """Sums of net per (account, batch, net currency); a batch that has a payout record must come to zero with it.

    Each batch is a document, except where the reader gives the document of a line with it.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._sums: dict[tuple[str, str, str], int] = {}
        self._payout_lines: dict[tuple[str, str, str], int] = {}

    def add(self, line: SettlementLine, is_payout: bool, document: Document | None = None) -> None:
        """Send a line on and count it into its batch; lines outside any batch are only sent on."""
        tally = self._tally
        tally.entries += 1
        tally.add(line.net_currency, line.net_minor)
        if line.batch_reference is None:
            tally.emit("settlement_lines", line, document)
            return
        key = (line.processor_account, line.batch_reference, line.net_currency)
        tally.emit("settlement_lines", line, document or tally.document("settlement_batch", tally.origin, *key))
        self._sums[key] = self._sums.get(key, 0) + line.net_minor
        tally.statements = len(self._sums)
        if is_payout:
            self._payout_lines[key] = line.line_no

    def close(self) -> None:
        """Prove the batches that have a payout record.

        :raises Rejected: the lines of a batch do not come to zero with its payout (SPLIT_MISMATCH).
        """
        tally = self._tally
        off = {key: self._sums[key] for key in self._payout_lines if self._sums[key]}
        if not off:
            tally.balance = "ok" if self._payout_lines else "-"
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
