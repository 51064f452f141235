"""The free text of an MT940 entry (:86:): remittance, counterparty and end-to-end reference out of its dialects.

German banks number subfields (?20 remittance, ?32 name), others label them (/REMI/, /NAME/, /EREF/), others just
write. A field is wrapped after 65 characters, a subfield after 27, in the middle of a word: a part that is full goes
on without a blank, so that a reference that was wrapped can be found again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LINE_WIDTH = 65
SUBFIELD_WIDTH = 27
NUMBERED = re.compile(r"[?>](\d{2})")
LABELLED = re.compile(r"/(REMI|NAME|EREF|CNTP|BENM|ORDP|IBAN|BIC|TRTP|ISDT|CSID|MARF|SVCL|PREF|RTRN)/")
REMITTANCE = frozenset(f"{number:02}" for number in (*range(20, 30), *range(60, 64)))
NAME = frozenset({"32", "33"})
END_TO_END = re.compile(r"EREF[+:]\s*(\S+)")


def remittance(lines: list[str]) -> str | None:
    """What travelled with the payment; the whole text where it has no subfields."""
    numbered = _numbered(lines)
    if numbered:
        text = _joined((part for code, part in numbered if code in REMITTANCE), SUBFIELD_WIDTH)
    else:
        text = _labelled(lines).get("REMI") or _joined(lines, LINE_WIDTH)
    return text or None


def counterparty(lines: list[str]) -> str | None:
    """The other party's name, where the text marks it."""
    numbered = _numbered(lines)
    if numbered:
        return _joined((part for code, part in numbered if code in NAME), SUBFIELD_WIDTH) or None
    return _labelled(lines).get("NAME") or None


def end_to_end_reference(lines: list[str]) -> str | None:
    """The ordering party's reference, where the text marks it."""
    labelled = _labelled(lines).get("EREF")
    if labelled:
        return labelled
    match = END_TO_END.search(remittance(lines) or "")
    return match[1] if match else None


def _numbered(lines: list[str]) -> list[tuple[str, str]]:
    parts = NUMBERED.split("".join(lines))
    if not re.fullmatch(r"\d{3}", parts[0].strip(), re.ASCII):
        return []  # numbered subfields follow a three-digit transaction code
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _labelled(lines: list[str]) -> dict[str, str]:
    parts = LABELLED.split(_joined(lines, LINE_WIDTH))
    return {label: text.strip("/ ") for label, text in zip(parts[1::2], parts[2::2], strict=True)}


def _joined(parts: Iterable[str], width: int) -> str:
    joined = ""
    full = True
    for part in parts:
        joined += part if full else f" {part}"
        full = len(part) >= width
    return re.sub(r"\s+", " ", joined).strip()
