"""Extraction of a payment system's Postgres: consistent snapshots, verified batches in ``raw``, nothing lost.

    snapshot      one run: every declared table in one snapshot, as the batches of one interval
    source        the source's connections and the snapshot they share; ``identity`` tells servers apart
    shape, state  what its catalogue says: columns and types, and signs that rows went away
    copying       rows and their totals on the way, streamed; ``card_masking`` hides card numbers in the SELECT
    sweep         what no horizon shows: rows gone, rows missed; ``known_keys`` finds ids used again
    verify        any batch proven again, against raw and against the source
    catalogue     ``tieout source add``: ``suggestions`` become a ``declaration`` for review
"""
