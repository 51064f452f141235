"""A hostile bank file costs time by its size, never by the square of it: two sizes of one shape are compared."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tieout import files

SMALL, TIMES = 16_000, 8
# Eight times the bytes may take this many times as long. The square would be 64 times; the machine is shared.
FACTOR_MAX = 26
# Below it the clock and what a file costs however small it is would be compared.
SECONDS_MIN = 0.004

Shape = Callable[[int], str]

MT940 = ":20:A\n:25:GB29\n:28C:1\n:60F:C261019EUR0,00\n"
ENTRY = ":61:2610191019C1,00NTRFNONREF//BANK\n"
CLOSING = ":62F:C261019EUR{},00\n-\n"
BAI2 = "01,A,B,261019,0900,1,,,2/\n02,B,A,1,261019,,USD,/\n03,77,USD,010,0,,,015,0,,/\n"


def repeated(piece: str, before: str = "", after: str = "") -> Shape:
    return lambda size: before + piece * (size // len(piece)) + after


def account_beside_entries(size: int) -> str:
    entries = size // 2 // len(ENTRY)
    return MT940.replace("GB29", "1" * (size // 2)) + ENTRY * entries + CLOSING.format(entries)


def statements(size: int) -> str:
    return "".join(MT940.replace(":28C:1", f":28C:{number}") + CLOSING.format(0) for number in range(size // 70))


def pages(size: int) -> str:
    messages = [
        MT940.replace(":28C:1", f":28C:1/{number}") + ":62M:C261019EUR0,00\n-\n" for number in range(1, size // 70)
    ]
    return "".join([messages[0], *(each.replace(":60F:", ":60M:") for each in messages[1:])])


TEXT = MT940 + ENTRY + ":86:"
SHAPES: dict[str, Shape] = {
    "a long line without a colon": repeated("x", ":20:A\n"),
    "text without a line end": repeated("x", TEXT),
    "digits": repeated("4", TEXT),
    "digits apart": repeated("4 ", TEXT),
    "digits and hyphens": repeated("41-", TEXT),
    "card numbers": repeated("4111111111111111 ", TEXT),
    "blank lines": repeated("\n", TEXT, "x"),
    "carriage returns": repeated("\r", TEXT, "x"),
    "blanks": repeated(" ", TEXT, "x"),
    "tags": repeated(":99:\n", MT940),
    "texts": repeated(":86:x\n", MT940 + ENTRY),
    "entries": repeated(ENTRY, MT940),
    "no entries": repeated(":61:x\n", MT940),
    "an amount": repeated("1", MT940 + ":61:2610191019C", ",00NTRF\n"),
    "commas": repeated(",", MT940 + ":61:2610191019C1", "NTRF\n"),
    "subfields": repeated("?20", TEXT + "166"),
    "labels": repeated("/REMI/", TEXT),
    "references": repeated("EREF+ ", TEXT),
    "short lines": repeated("a\n", TEXT),
    "messages": repeated(":20:A\n"),
    "ends": repeated("-\n", MT940),
    "a line behind an end": repeated("\v", MT940 + "-}", "x"),
    "statements": statements,
    "pages": pages,
    "an account beside entries": account_beside_entries,
    "BAI2: continuations": repeated("88,x\n", BAI2 + "16,195,1,Z,a,b,text\n"),
    "BAI2: wide continuations": repeated("88," + "x" * 80 + "\n", BAI2 + "16,195,1,Z,a,b,text\n"),
    "BAI2: transactions": repeated("16,195,1,Z,a,b,text/\n", BAI2),
    "BAI2: fields": repeated(",", BAI2 + "16,195,1,Z,a,b"),
    "BAI2: balances": repeated("010,1,,,", BAI2.removesuffix("/\n") + ","),
    "BAI2: balances over lines": repeated("88,010,1,,\n", BAI2),
    "BAI2: availability": repeated("16,195,1,D,1,0,1,a\n", BAI2),
    "BAI2: slashes": repeated("/", BAI2 + "16,195,1,Z,a,b,"),
    "BAI2: digits": repeated("4 ", BAI2 + "16,195,1,Z,a,b,"),
    "BAI2: accounts": repeated("49,0,2/\n03,77,USD,010,0,,,015,0,,/\n", BAI2),
}


def seconds(text: str, folder: Path) -> float:
    """Processor time of reading the text, which is no one else's."""
    path = folder / "hostile"
    path.write_text(text, encoding="utf-8", newline="")
    # Collecting garbage takes as long as all that other tests left in memory is large.
    gc.disable()
    started = time.process_time()
    try:
        with suppress(files.Rejected):
            files.read(path, lambda table, rows: None)
        return time.process_time() - started
    finally:
        gc.enable()


def factor(shape: Shape, folder: Path) -> float:
    """How many times as long ``TIMES`` the size takes; looked at again where it seems too long."""
    found = []
    for _ in range(3):
        small, large = seconds(shape(SMALL), folder), seconds(shape(SMALL * TIMES), folder)
        found.append(large / max(small, SECONDS_MIN))
        if found[-1] < FACTOR_MAX:
            break
    return min(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("time")
    # What is imported or compiled at first use is nobody's time.
    for text in (TEXT, BAI2 + "16,195,1,Z,a,b,text/\n"):
        seconds(text, folder)
    return folder


@pytest.mark.parametrize("name", SHAPES)
def test_a_hostile_shape_takes_time_by_its_size(name: str, folder: Path) -> None:
    assert factor(SHAPES[name], folder) < FACTOR_MAX


PIECES = st.lists(
    st.sampled_from((
        ":61:", ":86:", ":20:A", ":25:", ":28C:1/", ":60F:", ":62F:", ENTRY, "\n", "\r", "-", "-}", " ", "\t", "\x01",
        ",", "/", "//", "?20", "?32", "EREF+", "/NAME/", "4", "41 ", "4-", "x", "x" * 65, "\u2028", "{1:F01}",
    )),
    min_size=1, max_size=4,
)  # fmt: skip
BAI2_PIECES = st.lists(
    st.sampled_from((
        "\n88,", "\n16,195,1,", "\n49,0,2/", "\n03,7,,", "\n98,0,1,3/", ",", "/", "010,", "Z,", "V,", "D,", "D,9,",
        "S,", "1", "4 ", " ", "x", "x" * 80, "\r", "\n",
    )),
    min_size=1, max_size=4,
)  # fmt: skip
BEGINNINGS = (
    MT940, TEXT, MT940 + ":61:2610191019C1,00NTRF", ":20:A\n:25:", ":20:A\n:25:G\n:13D:2610191200+0000\n:34F:",
)  # fmt: skip
BAI2_BEGINNINGS = (BAI2, BAI2 + "16,195,1,", BAI2 + "16,195,1,Z,a,b,", BAI2.removesuffix("/\n") + ",")


@settings(
    max_examples=25, deadline=None, derandomize=True, database=None, phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(data=st.data())
@pytest.mark.parametrize(("beginnings", "pieces"), [(BEGINNINGS, PIECES), (BAI2_BEGINNINGS, BAI2_PIECES)],
                         ids=["mt940", "bai2"])  # fmt: skip
def test_whatever_is_repeated_takes_time_by_its_size(
    beginnings: tuple[str, ...], pieces: st.SearchStrategy[list[str]], folder: Path, data: st.DataObject
) -> None:
    before, piece = data.draw(st.sampled_from(beginnings)), "".join(data.draw(pieces))
    note(f"{before!r} {piece!r}")
    assert factor(repeated(piece, before), folder) < FACTOR_MAX
