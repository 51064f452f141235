"""Damage done to a whole file, as senders, networks, spreadsheets and attackers do it.

Every mutator is a function ``(draw, whole) -> (damaged, what was done)``; ``draw`` draws from a hypothesis strategy.
Bytes are looked at as Latin-1, in which every byte is one character and comes back as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[Any], Any]
Mutator = Callable[[Draw, bytes], tuple[bytes, str]]

# A comma may be a point or stand between two cells, so a number is looked for in each of these ways.
NUMBERS = (
    re.compile(rb"(?<![\d.])\d+\.\d+(?![\d.])"),
    re.compile(rb"(?<![\d.,])\d+,\d+(?![\d.,])"),
    re.compile(rb"(?<![\d.])\d+(?![\d.])"),
)
ARABIC = bytes.maketrans(b"0123456789", b"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9")
# How else a number may be written. A strict reader refuses it, or it is the same number.
SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "point for comma": lambda n: n.replace(b",", b"."),
    "comma for point": lambda n: n.replace(b".", b","),
    "comma and point changed": lambda n: n.translate(bytes.maketrans(b",.", b".,")),
    "thousands by comma": lambda n: _grouped(n, b","),
    # 163 with a point is another number; 163.15 with two is none.
    "thousands by point": lambda n: _grouped(n, b"." if b"." in n else b","),
    "thousands by space": lambda n: _grouped(n, b" "),
    "thousands by narrow space": lambda n: _grouped(n, "\u202f".encode()),
    "thousands by apostrophe": lambda n: _grouped(n, b"'"),
    "underscore": lambda n: n[:1] + b"_" + n[1:],
    "arabic digits": lambda n: b"".join(b"\xd9" + c.translate(ARABIC) if c.isdigit() else c for c in _characters(n)),
    "full width digits": lambda n: "".join(chr(0xFF10 + c - 48) if 48 <= c < 58 else chr(c) for c in n).encode(),
    "NaN": lambda n: b"NaN",
    "infinity": lambda n: b"Infinity",
    "exponent": lambda n: n + b"e2",
    "percent": lambda n: n + b"%",
    "hexadecimal": lambda n: b"0x" + n,
    "two signs": lambda n: b"--" + n,
    "sign behind": lambda n: n + b"-",
    "brackets": lambda n: b"(" + n + b")",
    "currency sign": lambda n: "\u20ac".encode() + n,
    "minus sign of typographers": lambda n: "\u2212".encode() + n,
    "two points": lambda n: n + b".0.0",
    "leading zeros": lambda n: b"000" + n,
    "blanks around": lambda n: b" " + n + b" ",
}
# Other numbers, well written.
VALUES: dict[str, Callable[[bytes], bytes]] = {
    "one more": lambda n: n[:-1] + (b"%d" % ((n[-1] - 48 + 1) % 10)),
    "a digit more": lambda n: n + b"0",
    "a digit in front": lambda n: b"9" + n,
    "a digit less": lambda n: n[:-1],
    "no point": lambda n: n.replace(b".", b"").replace(b",", b""),
    "other sign": lambda n: b"-" + n,
    "too large": lambda n: b"9" * 19 + n,
    "hundredfold": lambda n: re.sub(rb"^(\d+)([.,])(\d\d)(\d*)$", rb"\1\3\2\g<4>0", n),
    "zero": lambda n: b"0",
    "nothing": lambda n: b"",
}
MARKS = {"utf-8": b"\xef\xbb\xbf", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff", "utf-32-le": b"\xff\xfe\0\0"}
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "gbk", "utf-7", "cp037")
INSERTIONS = (
    b"\0", b"\r", b"\n", b"\n\n\n", b"\x1a", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\x85", b'"', b"'",
    b"`", b"<", b"&", b"]]>", b"<!--", b"{", b"}", b"[", b"\\u0000", b"\\ud800", b":61:", b"-}", b"88,", b"/", b"\t",
)  # fmt: skip
DOCTYPES = (
    b'<!DOCTYPE a [<!ENTITY b "c">]>',
    b'<!DOCTYPE a SYSTEM "file:///etc/passwd">',
    b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;">]>',
)


def respelled(draw: Draw, whole: bytes) -> tuple[bytes, str]:
    """One number, the same digits spelled in another way."""
    return _one_number(draw, whole, SPELLINGS)


def revalued(draw: Draw, whole: bytes) -> tuple[bytes, str]:
    """One number, another one."""
    return _one_number(draw, whole, VALUES)


def relined(draw: Draw, whole: bytes) -> tuple[bytes, str]:
    """One line twice, or gone, or two lines changed in order."""
    lines = whole.splitlines(keepends=True)
    at = draw(st.integers(0, len(lines) - 1))
    kind = draw(st.sampled_from(("twice", "gone", "moved", "first again")))
    line = lines[at]
    if kind == "twice":
        lines.insert(at, line)
    elif kind == "gone":
        del lines[at]
    elif kind == "moved":
        del lines[at]
        lines.insert(draw(st.integers(0, len(lines))), line)
    else:
        lines.insert(at, lines[0])
    return b"".join(lines), f"line {at + 1} {kind}"


def recolumned(draw: Draw, whole: bytes) -> tuple[bytes, str]:
    """One column of a delimited file twice, gone or moved, on every line."""
    delimiter = draw(st.sampled_from((b",", b",", b";", b"\t", b"|")))
    kind = draw(st.sampled_from(("twice", "gone", "moved", "empty")))
    at, to = draw(st.integers(0, 40)), draw(st.integers(0, 40))
    out = []
    for line in whole.splitlines(keepends=True):
        body = line.rstrip(b"\r\n")
        cells = body.split(delimiter)
        if at < len(cells) and len(cells) > 1:
            cell = cells.pop(at)
            if kind == "twice":
                cells[at:at] = [cell, cell]
            elif kind == "moved":
                cells.insert(min(to, len(cells)), cell)
            elif kind == "empty":
                cells.insert(at, b"")
        out.append(delimiter.join(cells) + line[len(body) :])
    return b"".join(out), f"column {at + 1} {kind}"


def patched(draw: Draw, whole: bytes) -> tuple[bytes, str]:
    """Some bytes flipped, gone, doubled or put in."""
    damaged = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(damaged) - 1, 0)))
        length = draw(st.integers(0, 12))
        again = bytes(damaged[at : at + 40])
        damaged[at : at + length] = draw(
            st.one_of(st.sampled_from(INSERTIONS), st.binary(max_size=12), st.just(again))
        )
    return bytes(damaged), "patched"


def truncated(draw: Draw, whole: bytes) -> tuple[bytes, str]:
    """Only a first or a last piece."""
    at = draw(st.integers(0, len(whole)))
    return (whole[:at], f"cut at {at}") if draw(st.booleans()) else (whole[at:], f"begins at {at}")


def recoded(draw: Draw, whole: bytes) -> tuple[bytes, str]:
    """Another encoding, or another mark at the start."""
    if draw(st.booleans()):
        mark = draw(st.sampled_from(sorted(MARKS)))
        return MARKS[mark] * draw(st.integers(1, 2)) + whole, f"mark of {mark}"
    encoding = draw(st.sampled_from(ENCODINGS))
    return whole.decode("utf-8", "replace").encode(encoding, "replace"), f"in {encoding}"


def inflated(draw: Draw, whole: bytes) -> tuple[bytes, str]:
    """One place grown huge: text, digits, quotes, nesting, lines."""
    at = draw(st.integers(0, len(whole)))
    size = draw(st.sampled_from((100, 1_000, 30_000, 200_000)))
    put = draw(st.sampled_from((b"x", b"9", b'"', b"<a>", b"[", b'{"a":', b",", b"\n", b" ", b"0", b"&amp;", b"\\")))
    return whole[:at] + put * (size // len(put)) + whole[at:], f"{size} bytes of {put!r} at {at}"


def declared(draw: Draw, whole: bytes) -> tuple[bytes, str]:
    """A document type put in, at the start or anywhere."""
    doctype = draw(st.sampled_from(DOCTYPES))
    at = draw(st.sampled_from((0, max(whole.find(b"?>") + 2, 0), len(whole) // 2)))
    return whole[:at] + doctype + whole[at:], f"document type at {at}"


ANY: tuple[Mutator, ...] = (
    respelled, revalued, relined, recolumned, patched, truncated, recoded, inflated, declared,
)  # fmt: skip


def battered(draw: Draw, whole: bytes) -> tuple[bytes, str]:
    """One to three kinds of damage, one after the other."""
    done = []
    for mutate in draw(st.lists(st.sampled_from(ANY), min_size=1, max_size=3)):
        if not whole:
            break
        whole, what = mutate(draw, whole)
        done.append(what)
    return whole, ", then ".join(done)


def _one_number(draw: Draw, whole: bytes, kinds: dict[str, Callable[[bytes], bytes]]) -> tuple[bytes, str]:
    kinds_of_number = [found for pattern in NUMBERS if (found := list(pattern.finditer(whole)))]
    if not kinds_of_number:
        return whole, "no number"
    # Most amounts have a point or a comma, and most numbers are no amounts: first the kind, then the place.
    match = draw(st.sampled_from(draw(st.sampled_from(kinds_of_number))))
    kind = draw(st.sampled_from(sorted(kinds)))
    put = kinds[kind](match[0])
    return whole[: match.start()] + put + whole[match.end() :], f"{match[0]!r} at {match.start()}: {kind}, {put!r}"


def _grouped(number: bytes, separator: bytes) -> bytes:
    whole = re.match(rb"\d+", number)
    assert whole is not None
    digits = whole[0]
    split = len(digits) - 3 if len(digits) > 3 else 1
    return digits[:split] + separator + digits[split:] + number[whole.end() :]


def _characters(number: bytes) -> list[bytes]:
    return [number[at : at + 1] for at in range(len(number))]
