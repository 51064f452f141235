"""Settlement reports: a day's lines become batches and payouts, some reports are sent again, banks are paid."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date

from tests.bench.match.bank import Bank, Payout
from tests.bench.match.days import at
from tests.bench.match.delivery import Deck, File, row_key
from tests.bench.match.events import PAYMENT_PROCESSOR, Account, Line, Row, Stage
from tests.bench.match.market import RECORD_TYPES

EVENING = 21 * 3600
BATCH_PAYOUT = "batch_payout"
PAIRED = ("twins", "merged", "merged_unnamed")
# Days after its booking on which a batch without payout is not yet overdue.
BATCH_WAITS_BUSINESS_DAYS = 3


class Reports:
    """Writes the files of processors; what they announce goes on to the bank."""

    def __init__(self, stage: Stage, bank: Bank) -> None:
        self.stage, self.bank = stage, bank
        faults = stage.plan.payout_faults
        apart = (*PAIRED, "negative")
        self.deck = Deck(stage.rng, {name: count for name, count in faults.items() if name not in apart})
        self.negatives = Deck(stage.rng, {"negative": faults.get("negative", 0)})
        # These need a second payout of the account on the next day.
        self.pairs = Deck(stage.rng, {name: count for name, count in faults.items() if name in PAIRED})
        self.restated = Deck(stage.rng, stage.plan.restated_faults)
        # close -> files that come then
        self._sent: dict[int, list[File]] = defaultdict(list)
        # account and currency -> (batch, payout, fault) that come with the account's next report
        self._late_payouts: dict[tuple[Account, str], list[tuple[str, int, str]]] = defaultdict(list)
        # account and currency -> what the next batch has to come to
        self._twins: dict[tuple[Account, str], int] = {}
        self._pairs = {(row["processor"], row["processor_account"], row["currency"]): row["bank_account"]
                       for row in self.stage.settlement_accounts}  # fmt: skip

    def play(self, close: int) -> Iterator[File]:
        """Every report that arrives for a close; what it says was settled on its own day, however late it comes."""
        for account, reports in self.stage.lines.items():
            delivered = self.stage.delivered[account][close]
            self._sent[delivered].append(self._report(account, close, reports[close], delivered))
            reports[close] = []
        yield from self._sent.pop(close, [])

    def _report(self, account: Account, number: int, lines: list[Line], close: int) -> File:
        stage = self.stage
        processor, name = account
        day = stage.days.closes[number]
        currencies = sorted({line.row["net_currency"] for line in lines} | {
            currency for (late, currency), waiting in self._late_payouts.items() if late == account and waiting
        })
        file_name = f"{processor}/{name}/{day}.csv"
        rows: list[Row] = []
        batches: dict[str, tuple[str, int]] = {}
        for currency in currencies:
            batch = f"{number + 1:04d}"
            for reference, amount, fault in self._late_payouts.pop((account, currency), []):
                payout = self._announce(account, currency, amount, day, close, fault)
                rows.append(self._row(account, currency, "payout", reference, payout, day, -amount))
            mine = [line for line in lines if line.row["net_currency"] == currency]
            if not mine:
                continue
            for line in mine:
                line.row["batch_reference"] = batch
                rows.append(line.row)
                self._tell(line, file_name, len(rows))
            net = sum(line.row["net_minor"] for line in mine)
            forced = self._twins.pop((account, currency), None)
            if forced is None and not self.bank.awaits_second(account, currency) and net > 0:
                is_negative = self.negatives.deal(number, self.stage.plan.closes, 7)
                forced = -net // 3 if is_negative else None
            if forced is not None:
                rows.append(self._row(account, currency, "fee", batch, None, day, forced - net))
                net = forced
            batches[currency] = (batch, net)
            rows += self._paid_out(account, currency, batch, net, day, close, mine, number)
        for line_no, row in enumerate(rows, 1):
            row["line_no"] = line_no
            row["document_no"] = 1
            row["row_key"] = row_key(
                processor, name, day, row["batch_reference"], row["gross_currency"], row["net_currency"],
                row["record_type"], row["psp_reference"], row["merchant_reference"],
            )  # fmt: skip
        file = File(file_name, processor, name, day, {"settlement_lines": rows})
        self._restate(account, file, close, lines, batches)
        return file

    def _tell(self, line: Line, file_name: str, line_no: int) -> None:
        """Write the truths about a line, now that its place is known."""
        row = line.row
        reference = f"{row['processor']}:{file_name}:{line_no}"
        if row["psp_reference"] is not None:
            reference = f"{row['processor']}:{row['psp_reference']}:{row['record_type']}"
        for kind, code, opens, clears, note in line.tells:
            self.stage.truth.open(kind, PAYMENT_PROCESSOR, "right", reference, code, opens, clears,
                                  row["gross_minor"], row["gross_currency"], note)  # fmt: skip

    def _paid_out(self, account: Account, currency: str, batch: str, net: int, day: date, close: int,
                  lines: list[Line], number: int) -> list[Row]:  # fmt: skip
        """The payout of a batch, and the truth about the batch."""
        stage, truth = self.stage, self.stage.truth
        # To the second of two payouts that belong together nothing else happens.
        is_second = self.bank.awaits_second(account, currency)
        fault = ""
        if net >= 20_000 and not is_second:
            if self._quiet(account, currency, number, close):
                fault = self.pairs.deal(close, stage.plan.closes, 0.6)
            fault = fault or self.deck.deal(
                close, stage.plan.closes, 7, lambda fault: fault != "returned_announced" or account[0] != "paypal"
            )
        reference = f"{account[0]}:{account[1]}:{batch}:{currency}"
        booked = max(line.row["booked_at"].date() for line in lines)
        due = stage.days.add(booked, BATCH_WAITS_BUSINESS_DAYS, currency)
        overdue = next((n for n, at_day in enumerate(stage.days.closes) if at_day > due), stage.plan.closes)
        overdue = max(overdue, close)
        batch_left = (fault, BATCH_PAYOUT, "left", reference)
        if fault == "no_payout":
            truth.open(*batch_left, "EXPECTED_NOT_DUE", close, overdue, net, currency)
            truth.open(*batch_left, "SPLIT_MISMATCH", overdue, None, net, currency)
            return []
        if fault in ("late_payout", "merged_unnamed"):
            came = stage.delivered[account][number + 1] if number + 1 < stage.plan.closes else stage.plan.closes
            truth.open(*batch_left, "EXPECTED_NOT_DUE", close, min(overdue, came), net, currency)
            truth.open(*batch_left, "SPLIT_MISMATCH", overdue, max(came, overdue), net, currency)
            self._late_payouts[account, currency].append((batch, net, "" if fault == "late_payout" else fault))
            return []
        amount, returned = net, []
        sent_back = [] if is_second else self.bank.to_be_announced(account, currency, day)
        for payout in sent_back:
            returned.append(self._row(account, currency, "payout_return", batch, payout.reference, day,
                                      payout.amount_minor))  # fmt: skip
            amount += payout.amount_minor
            self.bank.return_announced(payout, close)
        if fault == "other_than_batch":
            amount -= self.stage.rng.randint(100, 5_000)
            batch_right = (fault, BATCH_PAYOUT, "right", reference, "SPLIT_MISMATCH", close, None)
            truth.open(*batch_left, "SPLIT_MISMATCH", close, None, net, currency)
            # A payout that came back in this batch is part of what does not agree.
            for part in (amount, *(payout.amount_minor for payout in sent_back)):
                truth.open(*batch_right, part, currency)
            fault = ""
        if fault == "twins":
            self._twins[account, currency] = amount
            self.bank.twins[account, currency] = amount
        announced = self._announce(account, currency, amount, day, close, fault)
        return [*returned, self._row(account, currency, "payout", batch, announced, day, -amount)]

    def _quiet(self, account: Account, currency: str, number: int, close: int) -> bool:
        """Whether this report and what follows of account and bank come on time, on usual business days."""
        bank_account = self._pairs[account[0], account[1], currency]
        near = range(number, min(number + 4, self.stage.plan.closes))
        return (
            account == ("adyen", "TieoutEU") and currency == "EUR" and number == close
            and all(self.stage.delivered[account][n] == n for n in near)
            and all(self.stage.bank_delivered[bank_account][n] == n for n in near)
            and bool(self.stage.lines[account][number + 1 :])
        )  # fmt: skip

    def _announce(self, account: Account, currency: str, amount: int, day: date, close: int, fault: str) -> str:
        """Tell the bank of a payout; the reference it bears."""
        number = self.stage.number("payout")
        reference = {"adyen": f"TX{number:09d}", "stripe": f"po_{number:09d}"}.get(account[0], f"{number:013d}")
        bank_account = self._pairs[account[0], account[1], currency]
        payout = Payout(account[0], account[1], reference, amount, currency, bank_account, day, close)
        self.bank.announced(payout, fault)
        return reference

    def _row(self, account: Account, currency: str, kind: str, batch: str, reference: str | None, day: date,
             net: int) -> Row:  # fmt: skip
        """A line that is no payment: a payout, its return, a fee of the account."""
        moment = at(day, EVENING)
        return {
            "processor": account[0], "processor_account": account[1],
            "record_type": RECORD_TYPES[account[0]][kind], "batch_reference": batch,
            "psp_reference": reference, "original_psp_reference": None, "merchant_reference": None,
            "gross_minor": net, "gross_currency": currency, "fee_minor": 0, "net_minor": net, "net_currency": currency,
            "exchange_rate": None, "payment_method": None,
            "occurred_at": moment, "booked_at": moment, "record": "",
        }  # fmt: skip

    def _restate(self, account: Account, file: File, close: int, lines: list[Line],
                 batches: dict[str, tuple[str, int]]) -> None:  # fmt: skip
        """Plan that this report is sent again two closes from now, with what has changed by then."""
        stage = self.stage
        fault = self.restated.deal(close, stage.plan.closes, 5)
        again = close + 2
        # What is wrong with one line of a reference is settled by a correction of another.
        telling = {line.row["row_key"] for line in lines if line.tells}
        plain = [line for line in lines if line.kind == "capture" and line.row["row_key"] not in telling
                 and line.row["psp_reference"] and line.row["gross_currency"] == line.row["net_currency"]]  # fmt: skip
        if not fault or again >= stage.plan.closes or not plain:
            if fault:
                self.restated.put_back(fault)
            return
        rows: list[Row] = [dict(row) for row in file.tables["settlement_lines"]]
        # The loader tells lines apart that a report repeats, by what they say.
        alike: Counter[str] = Counter()
        for row in rows:
            alike[row["row_key"]] += 1
            row["occurrence_no"] = alike[row["row_key"]]
        if fault != "unchanged":
            line = stage.rng.choice(plain)
            row = rows[line.row["line_no"] - 1]
            currency = row["net_currency"]
            batch, _ = batches[currency]
            change = -row["gross_minor"] // 8
            reference = f"{row['processor']}:{row['psp_reference']}:{row['record_type']}"
            net_change = change
            if fault == "line_gone":
                change, net_change = -row["gross_minor"], -row["net_minor"]
                row.update(is_deleted=True, gross_minor=0, fee_minor=0, net_minor=0, line_no=-row["line_no"])
            else:
                row["gross_minor"] += change
                row["net_minor"] += change
            stage.truth.open(fault, PAYMENT_PROCESSOR, "right", reference, "RETRO_CORRECTION", again, None, change,
                             currency)  # fmt: skip
            payout = next((r for r in rows if r["record_type"] == RECORD_TYPES[account[0]]["payout"]
                           and (r["batch_reference"], r["net_currency"]) == (batch, currency)), None)  # fmt: skip
            if fault == "line_and_payout_changed" and payout is not None:
                payout["gross_minor"] -= net_change
                payout["net_minor"] -= net_change
                stage.truth.open(fault, "processor_bank", "left", f"{account[0]}:{payout['psp_reference']}",
                                 "RETRO_CORRECTION", again, None, net_change, currency)  # fmt: skip
            else:
                stage.truth.open(fault, BATCH_PAYOUT, "left", f"{account[0]}:{account[1]}:{batch}:{currency}",
                                 "RETRO_CORRECTION", again, None, net_change, currency)  # fmt: skip
        name = file.name.replace(".csv", ".again.csv")
        self._sent[again].append(File(name, file.origin, file.origin_account, file.content_date,
                                       {"settlement_lines": rows}))  # fmt: skip
