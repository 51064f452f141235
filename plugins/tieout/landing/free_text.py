"""Card numbers in the free text of files, masked by the block on the way to raw."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tieout.card_numbers import LONG_NUMBER, CardKey, mask_beside, may_have_long_number
from tieout.sources import Column


class FreeText:
    """The free text of one table of files: masked by the block of rows, and what was masked counted.

    A text holds the ids of its own row, too, where it is the record as it stood in the file. They are assigned by
    systems, and stay. ``rows`` had a card number, ``columns`` maps a column to how many of its texts had.

    :param columns: of the rows, in order.
    """

    def __init__(self, columns: Sequence[Column], key: CardKey | None) -> None:
        self.rows = 0
        self.columns: dict[str, int] = {}
        self._key = key
        self._texts = {at: column.name for at, column in enumerate(columns) if column.free_text}
        self._ids = [at for at, column in enumerate(columns) if column.data_type == "text" and not column.free_text]

    def masked(self, block: Sequence[pa.Array]) -> list[pa.Array]:
        """The columns of some rows, their free text masked."""
        found, rows = list(block), set[int]()
        for at, name in self._texts.items():
            masks: dict[int, str] = {}
            if not may_have_long_number(block[at].buffers()[2]):
                continue
            suspects = pc.indices_nonzero(pc.match_substring_regex(block[at], LONG_NUMBER).fill_null(False))
            texts, *ids = (block[one].take(suspects).to_pylist() for one in (at, *self._ids))
            for row, text, *known in zip(suspects.to_pylist(), texts, *ids, strict=True):
                text, times = mask_beside(text, known, self._key)
                if times:
                    masks[row] = text
            if masks:
                every = enumerate(block[at].to_pylist())
                found[at] = pa.array([masks.get(row, text) for row, text in every], pa.string())
                self.columns[name] = self.columns.get(name, 0) + len(masks)
                rows |= masks.keys()
        self.rows += len(rows)
        return found
