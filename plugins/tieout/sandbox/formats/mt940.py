"""SWIFT MT940 customer statement: one file a statement, without the network's envelope."""

from __future__ import annotations

from tieout.sandbox.formats import Entry, Statement, major_units

WIDTH = 65


def file_name(statement: Statement) -> str:
    """The statement's file name."""
    return f"MT940_{statement.account}_{statement.day:%Y%m%d}.sta"


def _amount(minor: int, currency: str) -> str:
    # SWIFT amounts always carry the comma, also without decimals behind it.
    text = major_units(abs(minor), currency, point=",")
    return text if "," in text else text + ","


def _balance(tag: str, minor: int, statement: Statement) -> str:
    mark = "C" if minor >= 0 else "D"
    amount = _amount(minor, statement.currency)
    return f":{tag}:{mark}{statement.day:%y%m%d}{statement.currency}{amount}\r\n"


def _entry(entry: Entry, statement: Statement) -> str:
    mark = "C" if entry.amount_minor >= 0 else "D"
    if entry.is_reversal:
        # A reversal of a credit takes money out, a reversal of a debit brings it back.
        mark = "RD" if entry.amount_minor >= 0 else "RC"
    code = {"transfer": "NTRF", "charge": "NCHG", "return": "NRTI"}[entry.code]
    day = f"{statement.day:%y%m%d}{statement.day:%m%d}"
    text = entry.text if not entry.counterparty else f"{entry.text} {entry.counterparty}"
    pieces = [text[start : start + WIDTH] for start in range(0, len(text), WIDTH)]
    return (
        f":61:{day}{mark}{_amount(entry.amount_minor, statement.currency)}{code}"
        f"{entry.customer_reference or 'NONREF'}//{entry.reference}\r\n"
        f":86:" + "\r\n".join(pieces) + "\r\n"
    )


def render(statement: Statement) -> str:
    """The whole file."""
    return (
        f":20:{statement.day:%y%m%d}{statement.currency}{statement.number:05d}\r\n"
        f":25:{statement.account}\r\n:28C:{statement.number:05d}/001\r\n"
        + _balance("60F", statement.opening_minor, statement)
        + "".join(_entry(entry, statement) for entry in statement.entries)
        + _balance("62F", statement.closing_minor, statement)
        + _balance("64", statement.closing_minor, statement)
        + "-\r\n"
    )
