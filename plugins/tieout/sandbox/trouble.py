"""Plants the trouble of ``trouble_plan``: each kind twists one event and writes down what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tieout.sandbox.days import ONE_DAY, at, october, starts_at
from tieout.sandbox.events import Capture, Events, Sale, as_json, from_json
from tieout.sandbox.market import MARKETS, route
from tieout.sandbox.trouble_plan import PAYMENTS_PER_COPY, PLANTS, Plant

RESERVE_MINOR = 15_000


def play(events: Events) -> None:
    """Plant today's trouble, as often as the size of the world asks for."""
    copies = max(1, events.state.payments_per_day // PAYMENTS_PER_COPY)
    for index, plant in enumerate(PLANTS):
        if october(plant.day) == events.day:
            for copy in range(copies):
                HANDLERS[plant.kind](events, plant, f"{index:02d}{copy:04d}")


def due(events: Events, item: dict[str, Any]) -> bool:
    """Let planted trouble of an earlier day go on; False when the item is none of that."""
    handler = SEQUELS.get(item["what"])
    if handler is None:
        return False
    handler(events, item)
    return True


def _sale(events: Events, plant: Plant, status: str = "captured") -> Sale:
    draw = 9 if plant.processor == "adyen" else 0
    taken_by = route(plant.country, plant.network, draw)
    # Between late morning and late afternoon: no planted payment is near midnight but those that are meant to be.
    moment = at(events.day, 10) + timedelta(seconds=events.rng.randrange(7 * 3600))
    return events.sell(plant.country, plant.network, taken_by, moment, status)


def _captured(events: Events, plant: Plant) -> Capture:
    """A planted payment whose capture itself is in order."""
    sale = _sale(events, plant)
    moment = at(events.day, 18) + timedelta(seconds=events.rng.randrange(3600))
    return events.capture(sale, moment, sale.amount_minor)


def _record(events: Events, plant: Plant) -> Capture:
    sale = _sale(events, plant)
    moment = at(events.day, 18) + timedelta(seconds=events.rng.randrange(3600))
    return events.record_capture(sale, moment, sale.amount_minor)


def _later(events: Events, plant: Plant, capture: Capture, what: str) -> None:
    assert plant.then is not None, f"{plant} needs the day of what follows"
    events.agenda(
        october(plant.then), what, capture=as_json(capture), kind=plant.kind, line_day=plant.line_day or plant.then
    )


def _never_settled(events: Events, plant: Plant, _: str) -> None:
    if plant.then is not None:
        _later(events, plant, _captured(events, plant), "troubled_refund")
        return
    capture = _record(events, plant)
    events.wait(capture.capture_id, capture.sale, capture.amount_minor, None, plant.kind)


def _differs(events: Events, plant: Plant, _: str) -> None:
    capture = _record(events, plant)
    sale, gross = capture.sale, capture.amount_minor
    twist = {"UNDER": -(gross // 10), "OVER": gross // 10, "ROUNDING": -1}.get(plant.kind, 0)
    line = events.line("capture", sale, capture.psp_reference, gross + twist, capture.captured_at)
    if plant.kind == "CURRENCY_MISMATCH":
        line.gross_currency = line.net_currency = "EUR"
    elif plant.kind == "FEE_VARIANCE":
        line.fee_minor += 75
        line.net_minor -= 75
    events.pair(plant.kind, plant.kind, capture.capture_id, gross, sale, line)


def _twice(events: Events, plant: Plant, _: str) -> None:
    capture = _record(events, plant)
    line = events.line("capture", capture.sale, capture.psp_reference, capture.amount_minor, capture.captured_at)
    events.settle_as_due(capture.capture_id, capture.sale, line)
    events.right_only(plant.kind, plant.kind, line)


def _ambiguous(events: Events, plant: Plant, _: str) -> None:
    sale = _sale(events, plant)
    half = sale.amount_minor // 2
    moment = at(events.day, 18, 30)
    captures = [events.record_capture(sale, moment + timedelta(minutes=n), half, number=n) for n in (1, 2)]
    line = events.line("capture", sale, "", half, moment + timedelta(minutes=1))
    line.original_reference = ""
    place = events.right_only(plant.kind, plant.kind, line)
    for capture in captures:
        events.wait(capture.capture_id, sale, half, place.seen_on, plant.kind)
        events.truth.open(
            plant.kind, "payment_processor", "left", capture.capture_id, plant.kind, place.seen_on, None, half,
            sale.currency,
        )  # fmt: skip


def _late_line(events: Events, plant: Plant, _: str) -> None:
    assert plant.line_day is not None, f"{plant} needs the day of its line"
    capture = _record(events, plant)
    line = events.line(
        "capture", capture.sale, capture.psp_reference, capture.amount_minor, capture.captured_at,
        booked_on=october(plant.line_day),
    )  # fmt: skip
    events.pair(plant.kind, plant.kind, capture.capture_id, capture.amount_minor, capture.sale, line)


def _cut_off(events: Events, plant: Plant, number: str) -> None:
    # Spread over the last seconds of the day, so that many of them still are distinct.
    second = int(number) % 8
    before = starts_at(events.day + ONE_DAY) - timedelta(seconds=10 - second)
    sale = events.sell(
        plant.country, plant.network, route(plant.country, plant.network), before - timedelta(seconds=60),
        "authorised",
    )  # fmt: skip
    reference = events.new_reference(sale.processor, "capture")
    line = events.line("capture", sale, reference, sale.amount_minor, before)
    events.right_only(plant.kind, plant.kind, line, clears_on=events.day + ONE_DAY)
    events.agenda(
        events.day + ONE_DAY, "cut_off_capture", sale={name: getattr(sale, name) for name in Sale.__slots__},
        psp_reference=reference, second=10 + second,
    )  # fmt: skip


def _cut_off_capture(events: Events, item: dict[str, Any]) -> None:
    sale = Sale(**item["sale"])
    moment = events.starts + timedelta(seconds=item["second"])
    events.record_capture(sale, moment, sale.amount_minor, psp_reference=item["psp_reference"])
    events.ledger.change("payments", sale.payment_id, "captured", moment)


def _refund_later(events: Events, plant: Plant, _: str) -> None:
    _later(events, plant, _captured(events, plant), "troubled_refund")


def _troubled_refund(events: Events, item: dict[str, Any]) -> None:
    capture, kind = from_json(item["capture"]), item["kind"]
    sale, amount = capture.sale, capture.amount_minor
    moment = at(events.day, 11) + timedelta(seconds=events.rng.randrange(3600))
    if kind == "STATUS":
        refund_id, reference = events.record_refund(capture, amount, moment, "pending")
        events.agenda(
            events.day + ONE_DAY, "refund_outcome", refund_id=refund_id, status="failed", capture=item["capture"],
            amount_minor=amount,
        )  # fmt: skip
        events.right_only(kind, kind, events.line("refund", sale, reference, -amount, moment))
        return
    refund_id, reference = events.record_refund(capture, amount, moment, "succeeded")
    if kind == "IN_LEDGER_NOT_PSP":
        events.wait(refund_id, sale, -amount, None, kind)
        return
    line = events.line("refund", sale, reference, -amount, moment)
    if kind == "DIRECTION":
        line.gross_minor, line.net_minor = -line.gross_minor, -line.net_minor
        events.pair(kind, kind, refund_id, -amount, sale, line)
        return
    events.settle_as_due(refund_id, sale, line)
    if kind == "REFUND_REVERSED":
        booked_on = october(item["line_day"])
        # Stripe gives a failed refund back under its own reference.
        again = reference if sale.processor == "stripe" else events.new_reference(sale.processor, "refund")
        events.right_only(kind, kind, events.line("refund_reversed", sale, again, amount, moment, booked_on=booked_on))


def _chargeback_later(events: Events, plant: Plant, _: str) -> None:
    _later(events, plant, _captured(events, plant), "troubled_chargeback")


def _troubled_chargeback(events: Events, item: dict[str, Any]) -> None:
    capture, kind = from_json(item["capture"]), item["kind"]
    sale = capture.sale
    moment = at(events.day, 12) + timedelta(seconds=events.rng.randrange(3600))
    _, reference, _, _ = events.chargeback(capture, moment)
    again = reference if sale.processor == "stripe" else events.new_reference(sale.processor, "dispute")
    booked_on = october(item["line_day"])
    line = events.line("chargeback_reversed", sale, again, capture.amount_minor, moment, booked_on=booked_on)
    events.right_only(kind, kind, line)


def _stranger(events: Events, plant: Plant, number: str) -> Sale:
    """A payment that only the processor knows."""
    draw = 9 if plant.processor == "adyen" else 0
    processor, account = route(plant.country, plant.network, draw)
    return Sale(
        "", "", plant.country, plant.network, processor, account, MARKETS[plant.country].currency,
        events.price(plant.country), f"EXT-{events.day:%y%m%d}{number}",
        events.new_reference(processor, "payment"),
    )  # fmt: skip


def _line_only(events: Events, plant: Plant, number: str) -> None:
    sale = _stranger(events, plant, number)
    moment = at(events.day, 9, 40) + timedelta(seconds=events.rng.randrange(3600))
    reference = sale.psp_reference if sale.processor == "stripe" else events.new_reference(sale.processor, "capture")
    if plant.kind == "UNMAPPED_TYPE":
        line = events.line("unmapped", sale, reference, 260, moment, booked_on=events.day)
        line.original_reference = line.merchant_reference = ""
    else:
        line = events.line("capture", sale, reference, sale.amount_minor, moment, booked_on=events.day)
    if plant.kind == "MISSING_KEY":
        line.psp_reference = line.original_reference = line.merchant_reference = ""
    events.right_only(plant.kind, plant.kind, line)


def _reserve(events: Events, plant: Plant, number: str) -> None:
    sale = _stranger(events, plant, number)
    hold = events.line("reserve", sale, f"DepositCorrection {events.day:%y%m%d}{number}", 0, at(events.day, 4))
    hold.booked_on = events.day
    hold.original_reference = hold.merchant_reference = ""
    hold.gross_minor = hold.net_minor = -RESERVE_MINOR
    place = events.processors.settle(hold)
    assert place is not None, "reserves are planted where reports come"
    released_on = october(plant.then) if plant.then else None
    # What the processor holds is ours: on the left, and positive.
    events.truth.open(
        plant.kind, "payment_processor", "left", hold.psp_reference, "RESERVE_HELD", place.seen_on,
        released_on, RESERVE_MINOR, hold.gross_currency,
    )  # fmt: skip
    if released_on is not None:
        hold.booked_on, hold.occurred_at = released_on, at(released_on, 4)
        hold.gross_minor = hold.net_minor = RESERVE_MINOR
        events.processors.settle(hold)


HANDLERS: dict[str, Callable[[Events, Plant, str], None]] = {
    "IN_LEDGER_NOT_PSP": _never_settled,
    "UNDER": _differs,
    "OVER": _differs,
    "ROUNDING": _differs,
    "CURRENCY_MISMATCH": _differs,
    "FEE_VARIANCE": _differs,
    "DUPLICATE": _twice,
    "AMBIGUOUS": _ambiguous,
    "DATE_OUT_OF_WINDOW": _late_line,
    "CUTOFF_TEMPORARY": _cut_off,
    "DIRECTION": _refund_later,
    "STATUS": _refund_later,
    "REFUND_REVERSED": _refund_later,
    "NEGATIVE_BATCH": _refund_later,
    "CHARGEBACK_REVERSED": _chargeback_later,
    "IN_PSP_NOT_LEDGER": _line_only,
    "UNMAPPED_TYPE": _line_only,
    "MISSING_KEY": _line_only,
    "RESERVE_HELD": _reserve,
    "RESERVE_RELEASED": _reserve,
}
SEQUELS: dict[str, Callable[[Events, dict[str, Any]], None]] = {
    "troubled_refund": _troubled_refund,
    "troubled_chargeback": _troubled_chargeback,
    "cut_off_capture": _cut_off_capture,
}
