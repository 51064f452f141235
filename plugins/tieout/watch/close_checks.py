"""Checks of what the closes made: their state, breaks, actions and build, the journal they sealed."""

from __future__ import annotations

import re
from datetime import date, datetime
from hashlib import sha256

from psycopg2.extensions import connection as Connection

from tieout.business_days import read_calendar
from tieout.money import to_text
from tieout.sources import Registry
from tieout.watch.findings import BOOK, DUE_HOURS, PLATFORM, Finding, Severity, blind, query

# The newest closes are re-proved by every run, each older one by one run of a day (a quarter of an hour each).
SEALS_ALWAYS = 5
SEALS_ROTATION = 96
# A close takes minutes; its machine may be slow, its runner may be gone.
UNFINISHED_HOURS_MAX = 2


def close_state(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Is the newest close published or at work, and is the newest business day that is due closed?

    Of a date that is closed again, with all dates after it, the close that failed counts and not the last one.
    How long a close has been at work is a matter of the machine: the database's clock, not the business clock.
    """
    calendar = read_calendar(connection, BOOK)
    due = calendar.last_due_day(as_of, DUE_HOURS)
    newest = query(
        connection,
        "select business_date, state, failure, close_id, "
        "extract(epoch from clock_timestamp() - opened_at)::bigint / 3600 "
        "from ops.closes where book = %s order by state = 'failed' desc, close_id desc limit 1",
        (BOOK,),
    )
    head = query(connection, "select max(business_date) from ops.published where book = %s", (BOOK,))[0][0]
    findings = []
    if newest and newest[0][1] == "failed":
        business_date, _, failure, *_ = newest[0]
        findings.append(
            Finding(
                "close_state", f"{BOOK} close", "fail",
                f"the close of {business_date} failed: {failure or 'no reason was kept'}. Until it is proven, readers "
                f"see {head or 'no close'}", {"business_date": str(business_date)}, PLATFORM,
            )
        )  # fmt: skip
    elif newest and newest[0][1] in ("running", "proven") and newest[0][4] >= UNFINISHED_HOURS_MAX:
        business_date, state, _, close_id, hours = newest[0]
        findings.append(
            Finding(
                "close_state", f"{BOOK} close", "warn",
                f"close {close_id} of {business_date} was opened more than {UNFINISHED_HOURS_MAX} hours ago and "
                f"is still {state}: run it again, or give it up with: tieout close abort {close_id}",
                {"close_id": close_id, "business_date": str(business_date), "hours": int(hours)}, PLATFORM,
            )
        )  # fmt: skip
    else:
        state = newest[0][1] if newest else "not yet opened"
        findings.append(
            Finding("close_state", f"{BOOK} close", "ok", f"the newest close is {state}", {"state": state}, PLATFORM)
        )
    late_days = len(calendar.days_missing([calendar.currency], head, due)) if head is not None else None
    observed = {"published": str(head), "due": str(due)}
    severity: Severity = "ok"
    message = f"published up to {head}, due is {due}"
    if late_days is None:
        severity, message = "fail", f"no close was ever published, due is {due}"
    elif late_days > 0:
        severity = "warn" if late_days == 1 else "fail"
        message += f": {late_days} business day(s) late"
    return [*findings, Finding("close_state", f"{BOOK} published", severity, message, observed, PLATFORM)]


def breaks_over_threshold(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Does the head close hold open breaks above the thresholds of rules.severity_thresholds?

    One finding per reconciliation and break code: critical ones fail, high ones warn. Codes that are mere timing
    do not count.
    """
    head = _head_close(connection)
    if head is None:
        return [blind("breaks_over_threshold", "no close is published, so there are no breaks to look at")]
    close_id, business_date = head
    found = query(
        connection,
        "select reconciliation, break_code, count(*), count(*) filter (where severity = 'critical'), "
        "  case when bool_and(reporting_exposure_minor is not null) then sum(reporting_exposure_minor)::bigint end, "
        "  min(first_seen_business_date), min(owner) "
        "from published.break_register "
        "where business_date = %s and not is_timing and severity in ('critical', 'high') "
        "group by reconciliation, break_code order by reconciliation, break_code",
        (business_date,),
    )
    currency = read_calendar(connection, BOOK).currency
    findings = []
    for reconciliation, code, breaks, critical, exposure_minor, first_seen, owner in found:
        valued = "not all valued" if exposure_minor is None else f"{to_text(exposure_minor, currency)} {currency}"
        message = (
            f"{breaks} open break(s) above the threshold at the close of {business_date}, {critical} of them critical; "
            f"at risk: {valued}; the oldest since {first_seen}"
        )
        observed = {
            "close_id": close_id, "breaks": breaks, "critical": critical,
            "exposure_minor": exposure_minor, "currency": currency,
        }  # fmt: skip
        severity: Severity = "fail" if critical else "warn"
        findings.append(
            Finding("breaks_over_threshold", f"{reconciliation} {code}", severity, message, observed, owner or PLATFORM)
        )
    message = f"{len(findings)} kinds of break above the threshold at the close of {business_date}"
    return [*findings, Finding("breaks_over_threshold", "head close", "ok", message, {"close_id": close_id}, PLATFORM)]


def _head_close(connection: Connection) -> tuple[int, date] | None:
    rows = query(
        connection,
        "select close_id, business_date from ops.published where book = %s order by business_date desc limit 1",
        (BOOK,),
    )
    return (rows[0][0], rows[0][1]) if rows else None


def refused_actions(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Did the head close refuse anything that people decided about breaks?

    One finding an action. A refusal is told once: with the next close its incident is over.
    """
    head = _head_close(connection)
    if head is None:
        return [blind("refused_actions", "no close is published, so no action was taken")]
    close_id, business_date = head
    taken = query(
        connection,
        "select action_id, kind, actor, outcome, refusal from published.break_actions "
        "where close_id = %s order by action_id",
        (close_id,),
    )
    findings = []
    for action_id, kind, actor, outcome, refusal in taken:
        if outcome == "refused":
            message = (
                f"the close of {business_date} refused the {kind} by {actor}: {refusal}. Nothing of it was done: "
                "decide anew with tieout breaks"
            )
            observed = {"close_id": close_id, "kind": kind, "actor": actor}
            findings.append(
                Finding("refused_actions", f"action {action_id}", "warn", message, observed, "finance-control")
            )
    message = f"the close of {business_date} took {len(taken)} actions and refused {len(findings)}"
    return [*findings, Finding("refused_actions", "head close", "ok", message, {"taken": len(taken)}, PLATFORM)]


def proof_exceptions(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Was the head close published in spite of lines of its proof that do not hold?

    One finding a line, for as long as closes carry it: its incident stays open until the difference is gone.
    """
    head = _head_close(connection)
    if head is None:
        return [blind("proof_exceptions", "no close is published, so none has an exception")]
    close_id, business_date = head
    carried = query(
        connection,
        "select check_name, subject, currency, difference_count, difference_minor, first_seen_business_date, "
        "signed_by, reason from published.proof_exceptions where close_id = %s "
        "order by check_name, subject, currency, first_seen_business_date",
        (close_id,),
    )
    findings = []
    for check, subject, currency, count, minor, since, signed_by, reason in carried:
        amount = "" if currency == "XXX" else f" and {to_text(int(minor), currency)} {currency}"
        message = (
            f"the close of {business_date} stands without its proof by {count} item(s){amount} since {since}; "
            f"signed by {signed_by}: {reason}"
        )
        observed = {"close_id": close_id, "difference_count": count, "difference_minor": str(minor)}
        named = f"{check} {subject} {currency} {since}"
        findings.append(Finding("proof_exceptions", named, "warn", message, observed, "finance-control"))
    message = f"{len(findings)} lines of the proof of {business_date} do not hold and are signed for"
    return [*findings, Finding("proof_exceptions", "head close", "ok", message, {"close_id": close_id}, PLATFORM)]


def reference_rates(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Could the head close value every currency? A rate older than the book allows is no rate."""
    head = _head_close(connection)
    if head is None:
        return [blind("reference_rates", "no close is published, so no rate was looked for")]
    rates = query(
        connection,
        "select currency, reporting_currency, rate, rate_source, observed_date "
        "from published.reporting_rates where business_date = %s order by currency",
        (head[1],),
    )
    if not rates:
        return [blind("reference_rates", f"the close of {head[1]} compared no currency")]
    findings = []
    for currency, reporting, rate, source, observed_date in rates:
        severity: Severity = "ok" if rate is not None else "fail"
        message = f"{rate} {currency} for one {reporting}, from {source}, of {observed_date}"
        if rate is None:
            message = (
                f"no recent rate to {reporting} at the close of {head[1]}, so nothing in {currency} is valued: put the "
                "missing rate file into the landing, or enter the rate in the seed treasury_rates and run tieout deploy"
            )
        observed = {"close_id": head[0], "observed_date": str(observed_date)}
        findings.append(Finding("reference_rates", currency, severity, message, observed, "treasury"))
    return findings


def dbt_results(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Did every model and test of the newest close that was built succeed? From ops.build_results."""
    results = query(
        connection,
        "select close_id, node, status, message from ops.build_results "
        "where close_id = (select max(close_id) from ops.build_results) order by node",
    )
    if not results:
        return [blind("dbt_results", "no close has been built yet, so there are no results to look at")]
    severities: dict[str, Severity] = {"success": "ok", "pass": "ok", "no-op": "ok", "warn": "warn"}
    findings = []
    for close_id, node, status, message in results:
        severity = severities.get(status, "fail")
        # Skipped nodes stand below one that failed, which is reported.
        if severity != "ok" and status != "skipped":
            said = re.sub(r"\s+", " ", message or "").strip()
            findings.append(
                Finding("dbt_results", node, severity, f"{status}: {said}"[:500], {"close_id": close_id}, PLATFORM)
            )
    skipped = sum(status == "skipped" for _, _, status, _ in results)
    message = f"{len(results)} nodes of close {results[0][0]}: {len(findings)} not in order, {skipped} skipped"
    severity = "ok" if findings or not skipped else "fail"
    return [*findings, Finding("dbt_results", "build", severity, message, {"nodes": len(results)}, PLATFORM)]


def journal_chain(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Is the journal what the closes sealed? The chain of seals is recomputed, and the lines behind the newest ones.

    The lines of older closes are recomputed in turns, each at least once a day when the checks run every
    quarter of an hour.
    """
    turn = int(as_of.timestamp()) // 900 % SEALS_ROTATION
    seals = query(
        connection,
        "select seal_no, close_id, lines_digest, previous_seal, seal, line_count, "
        "  case when seal_no > max(seal_no) over () - %s or seal_no %% %s = %s then ledger.lines_digest(close_id) end "
        "from ledger.seals order by seal_no",
        (SEALS_ALWAYS, SEALS_ROTATION, turn),
    )
    unsealed = query(
        connection,
        "select close_id from ledger.journal where close_id not in (select close_id from ledger.seals) limit 1",
    )
    if not seals and not unsealed:
        return [blind("journal_chain", "no close is sealed yet, so there is no chain to look at")]
    problems = [f"journal lines of close {close_id} have no seal" for (close_id,) in unsealed]
    previous, proved = "", 0
    for seal_no, close_id, digest, previous_seal, seal, line_count, recomputed in seals:
        if previous_seal != previous:
            problems.append(f"seal {seal_no} (close {close_id}) does not follow the seal before it")
        if sha256(f"{previous_seal}|{close_id}|{digest}".encode()).hexdigest() != seal:
            problems.append(f"seal {seal_no} (close {close_id}) is not the digest of its contents")
        if recomputed is not None:
            proved += 1
            if recomputed != digest:
                problems.append(f"the {line_count} lines sealed by close {close_id} were changed, removed or added to")
        previous = seal
    message = "; ".join(problems[:5]) or f"{len(seals)} seals follow each other, the lines of {proved} were recomputed"
    observed = {"seals": len(seals), "recomputed": proved, "head": previous, "problems": problems[:20]}
    return [Finding("journal_chain", "journal", "fail" if problems else "ok", message, observed, "finance-control")]
