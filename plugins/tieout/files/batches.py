"""The settlement batches of a processor's report: do the lines of each add up to its payout?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter

import pyarrow as pa
import pyarrow.compute as pc

from tieout import money
from tieout.files.columns import sums_by
from tieout.files.proof import Document, Rejected, SettlementLine, Tally

_Batch = tuple[str, str | None, str]
_BATCH = attrgetter("processor_account", "batch_reference", "net_currency")
LINES = "settlement_lines"


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
        batch = _BATCH(line)
        self._count(batch, 1, line.net_minor)
        if is_payout:
            self._note_payout(batch, line.line_no)
        self._tally.emit(LINES, line, document or self._document(batch), known_by)

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
        of_lines: list[_Batch] = list(map(_BATCH, lines))
        sums: dict[_Batch, list[int]] = {}
        for batch, line in zip(of_lines, lines, strict=True):
            counted = sums.setdefault(batch, [0, 0])
            counted[0] += 1
            counted[1] += line.net_minor
            if line.line_no in payouts:
                self._note_payout(batch, line.line_no)
        for batch, (count, minor) in sums.items():
            self._count(batch, count, minor)
        if documents is None:
            own = {batch: self._document(batch) for batch in sums}
            documents = list(map(own.__getitem__, of_lines))
        self._tally.emit_all(LINES, lines, documents, known_by)

    def add_block(self, block: pa.RecordBatch, payouts: Sequence[int]) -> None:
        """:meth:`add` for a block of lines, all of them in a batch; ``payouts`` are places of those that pay out."""
        account, batch, currency = (block[name] for name in ("processor_account", "batch_reference", "net_currency"))
        # No text of a file holds what joins them.
        names = pc.binary_join_element_wise(account, batch, currency, "\0")
        for name, count, minor in sums_by(names, block["net_minor"]):
            self._count(_named(name), count, minor)
        for place in payouts:
            self._note_payout(_named(names[place].as_py()), block["line_no"][place].as_py())
        encoded = names.dictionary_encode()
        documents = [self._document(_named(name)) for name in encoded.dictionary.to_pylist()]
        identities, numbers = (pa.array([each and each[at] for each in documents]) for at in (1, 2))
        self._tally.emit_block(LINES, block, identities.take(encoded.indices), numbers.take(encoded.indices))

    def _count(self, batch: _Batch, lines: int, minor: int) -> None:
        tally = self._tally
        tally.entries += lines
        tally.add(batch[2], minor)
        if batch[1] is not None:
            self._sums[batch] = self._sums.get(batch, 0) + minor
        tally.statements = len(self._sums)

    def _note_payout(self, batch: _Batch, line: int) -> None:
        if batch[1] is not None:
            self._payout_lines[batch] = line

    def _document(self, batch: _Batch) -> Document | None:
        account, reference, currency = batch
        if reference is None:
            return None
        return self._tally.document("settlement_batch", self._tally.origin, account, reference, currency)

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


def _named(name: str | None) -> _Batch:
    account, batch, currency = str(name).split("\0")
    return account, batch, currency
