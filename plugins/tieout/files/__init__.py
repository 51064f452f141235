"""Readers of the files that processors, banks and rate publishers send: one module a format, or a declaration.

A processor's CSV needs no module: a YAML file in ``declared/`` says what its rows are and what proves them.

:func:`read` recognises a file by its content (never by its name alone), sends rows in the shape of the ``files``
source YAML to a sink, and hands back a :class:`Reading`: counts, sums and the proof. A wrong file raises
:class:`Rejected`, and only that. Rows reach the sink before the file is proven: whoever loads them does so in one
transaction and drops it when the reader refuses.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

from tieout.files import (
    adyen,
    bai2,
    braintree,
    camt,
    declared,
    ecb,
    mollie,
    mt940,
    paypal,
    paypal_details,
    stripe,
    stripe_balance,
)
from tieout.files.proof import Reading, Rejected, Sink, Tally

__all__ = ["Reading", "Rejected", "Sink", "read", "sniff"]

Reader = Callable[[Path, Sink], Tally]

HEAD_BYTES = 1 << 16
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
CSV_READERS: tuple[tuple[Callable[[list[str]], bool], Reader], ...] = (
    (adyen.recognises, adyen.read),
    (stripe_balance.recognises_payouts, stripe_balance.read_payouts),
    (stripe.recognises, stripe.read),
    (ecb.recognises, ecb.read),
)
TEXT_READERS: tuple[tuple[Callable[[str], bool], Reader], ...] = (
    (camt.recognises, camt.read),
    (stripe_balance.recognises_activity, stripe_balance.read_activity),
    (bai2.recognises, bai2.read),
    (paypal_details.recognises, paypal_details.read),
    (paypal.recognises, paypal.read),
    (mt940.recognises, mt940.read),
    (braintree.recognises, braintree.read),
    (mollie.recognises, mollie.read),
)


def read(path: Path, sink: Sink) -> Reading:
    """Read one file of any known format.

    ``sink`` receives (raw table name, row) for every row, in the order of the source YAML's columns without
    ``file_id``. The file's name plays no part.

    :raises Rejected: no reader recognises the file, it breaks its format, or it does not prove itself; its
        ``reading`` is always set, with what could be counted.
    :raises OSError: the file cannot be opened.
    """
    try:
        return sniff(path)(path, sink).reading()
    except Rejected as rejected:
        rejected.file = path.name
        rejected.reading = rejected.reading or Reading()
        raise


def sniff(path: Path) -> Reader:
    """The reader that recognises the file's content.

    :raises Rejected: the file is empty, or no reader recognises it.
    """
    with path.open("rb") as stream:
        data = stream.read(HEAD_BYTES)
    if not data.strip():
        raise Rejected("empty file", expected="a report or a statement", found=f"{path.stat().st_size} bytes")
    encoding = "utf-16" if data.startswith(UTF_16_MARKS) else "utf-8-sig"
    head = data.decode(encoding, errors="replace")
    for recognises, reader in TEXT_READERS:
        if recognises(head):
            return reader
    header = _csv_header(head)
    for recognises_header, reader in CSV_READERS:
        if recognises_header(header):
            return reader
    declared_reader = declared.recognise(data)
    if declared_reader is not None:
        return declared_reader
    raise Rejected(
        "no reader recognises this file",
        expected="camt.052/053/054, MT940/MT942, BAI2, a settlement report of Adyen, Stripe, PayPal, Braintree, Mollie "
        "or of a format in tieout/files/declared, or ECB rates",
        found=re.sub(r"\s+", " ", head[:60]),
        remedy="check that the right report was sent; another CSV needs a declaration in tieout/files/declared",
    )


def _csv_header(head: str) -> list[str]:
    first = next((line for line in head.splitlines() if line.strip()), "")
    try:
        return next(csv.reader([first], strict=True), [])
    except csv.Error:
        return []
