"""Quarantine: what is shown of a file, who released it and why, and what the next ingest makes of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors
from typer.testing import CliRunner

from tests.plugins.desk import Desk, adyen, rates, statement
from tieout import files
from tieout.cli import BAD_INPUT, app
from tieout.landing.quarantine import QuarantineError, describe, list_files, release
from tieout.postgres import Cluster

BROKEN = adyen({1: [("A", 100), ("B", 200)]}).replace("2.00,1,EUR", "2.x0,1,EUR")


@pytest.fixture
def tieout(desk: Desk, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Run a command as the controller against the desk's warehouse: exit code and all it printed."""
    monkeypatch.setenv("TIEOUT_WAREHOUSE_DSN", cluster.dsn(desk.warehouse.info.dbname, "controller"))

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["quarantine", *arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return run


def test_what_is_set_aside_is_listed_and_shown(desk: Desk, tieout: Callable[..., tuple[int, str]]) -> None:
    desk.put("1.sta", statement(1, 0, 5))
    desk.put("3.sta", statement(3, 7, 5))
    desk.put("broken.csv", BROKEN)
    _, held, refused = desk.run()
    listed = list_files(desk.warehouse)
    assert [(each.file_id, each.name, each.status) for each in listed] == [
        (held.file_id, "3.sta", "held"), (refused.file_id, "broken.csv", "quarantined")
    ]  # fmt: skip
    desk.warehouse.rollback()
    code, text = tieout("list")
    assert (code, "broken.csv" in text, "3.sta" in text) == (0, True, True)
    shown = dict(describe(desk.warehouse, refused.file_id or 0))
    assert (shown["line"], shown["found"], shown["sha256"]) == ("3", "2.x0", refused.sha256)
    assert shown["record header"].startswith("Company Account,Merchant Account,")
    assert (shown["origin"], shown["entry count"], shown["signed sum"]) == ("adyen", "1", "EUR 100")
    assert [name for name in shown if name.startswith("line ")] == ["line 1", "line 2", "line 3 >", "line 4"]
    assert ",B,ORDER-B," in shown["line 3 >"]
    desk.warehouse.rollback()
    code, text = tieout("show", str(refused.file_id))
    assert (code, ",B,ORDER-B," in text) == (0, True)
    (desk.folder / "broken.csv").unlink()
    assert "cannot be read here any more" in dict(describe(desk.warehouse, refused.file_id or 0))["text"]


def test_a_card_number_in_a_refused_file_is_not_shown(desk: Desk) -> None:
    desk.put("a.csv", BROKEN.replace("ORDER-B", "4111111111111111"))
    (outcome,) = desk.run()
    shown = "\n".join(text for _, text in describe(desk.warehouse, outcome.file_id or 0))
    assert "4111111111111111" not in shown
    assert re.search(r"\*{6}1111", shown), shown


def test_a_held_file_is_loaded_once_released_and_everybody_knows(
    desk: Desk, tieout: Callable[..., tuple[int, str]]
) -> None:
    desk.put("1.sta", statement(1, 0, 5))
    desk.put("3.sta", statement(3, 7, 5))
    held = desk.run()[1]
    code, text = tieout("release", str(held.file_id), "--reason", "the bank has lost it", "--by", "ana")
    assert (code, "(3.sta) is released: the next ingest acts on it" in text) == (0, True)
    assert "held, released" in " ".join(tieout("list")[1].split())
    assert desk.outcomes() == {"1.sta": "known", "3.sta": "loaded"}
    assert desk.ask("select action, actor, reason from ops.file_actions order by action_id") == [
        ("released", "ana", "the bank has lost it"),
        ("loaded", "ingest", f"what stood against it is gone: {held.reason}"),
    ]
    ((message, file_id),) = desk.ask("select message, file_id from ops.load_notes where kind = 'released'")
    assert file_id == held.file_id
    assert "ana released it (the bank has lost it); what had stood against it: " in message
    assert list_files(desk.warehouse) == []


def test_a_refused_file_is_read_by_the_readers_of_the_day(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.read

    def strict(path: Path, sink: Any) -> files.Reading:
        raise files.Rejected("a column nobody knows yet")

    monkeypatch.setattr(files, "read", strict)
    desk.put("a.csv", adyen({1: [("A", 100)]}))
    (refused,) = desk.run()
    assert desk.outcomes() == {"a.csv": "known"}
    release(desk.warehouse, refused.file_id or 0, "let me see", "ana")
    (again,) = desk.run()
    assert (again.outcome, again.file_id) == ("quarantined", refused.file_id)
    # The release is used up: the next one needs a reason of its own.
    assert desk.outcomes() == {"a.csv": "known"}
    monkeypatch.setattr(files, "read", real)
    assert desk.outcomes() == {"a.csv": "known"}
    release(desk.warehouse, refused.file_id or 0, "the reader is repaired", "ben")
    (loaded,) = desk.run()
    assert (loaded.outcome, loaded.file_id) == ("loaded", refused.file_id)
    assert desk.ask("select status, reason, entry_count from ops.files") == [("loaded", None, 2)]
    assert desk.ask("select action, actor from ops.file_actions order by action_id") == [
        ("released", "ana"), ("refused", "ingest"), ("released", "ben"), ("loaded", "ingest")
    ]  # fmt: skip


def test_a_release_overrules_what_held_a_file_and_nothing_else(desk: Desk) -> None:
    """A file that was refused and is read anew still has to follow the statement before it."""
    desk.put("1.sta", statement(1, 0, 5))
    whole = statement(3, 7, 5)
    desk.put("3.sta", whole.replace(":62F:C", ":62F:D"))
    refused = desk.run()[1]
    assert refused.outcome == "quarantined"
    desk.ask("update ops.files set sha256 = 'x' where file_id = %s returning 1", refused.file_id)
    desk.put("3.sta", whole)
    held = desk.run()[1]
    assert held.outcome == "held"


@pytest.mark.parametrize(
    ("which", "reason", "said"),
    [
        (99, "why not", "there is no file 99"),
        (1, "why not", r"file 1 (a.csv) is loaded: there is nothing to release"),
        (2, " ", "needs a reason"),
    ],
)
def test_what_cannot_be_released_is_said(
    desk: Desk, tieout: Callable[..., tuple[int, str]], which: int, reason: str, said: str
) -> None:
    desk.put("a.csv", rates(27))
    desk.put("b.csv", "nonsense")
    desk.run()
    code, text = tieout("release", str(which), "--reason", reason)
    assert (code, said in " ".join(text.split())) == (BAD_INPUT, True), text
    assert desk.ask("select count(*) from ops.file_actions") == [(0,)]


def test_a_file_is_released_once(desk: Desk, tieout: Callable[..., tuple[int, str]]) -> None:
    desk.put("b.csv", "nonsense")
    (refused,) = desk.run()
    assert tieout("release", str(refused.file_id), "--reason", "one")[0] == 0
    ((actor,),) = desk.ask("select actor from ops.file_actions")
    assert actor not in ("", "ingest")
    code, text = tieout("release", str(refused.file_id), "--reason", "two")
    assert (code, f"was released by {actor} already (one)" in " ".join(text.split())) == (BAD_INPUT, True)
    assert tieout("show", "99")[0] == BAD_INPUT
    assert tieout("release", str(refused.file_id))[0] == BAD_INPUT
    with pytest.raises(QuarantineError, match="there is no file"):
        describe(desk.warehouse, 99)


def test_what_was_decided_and_what_is_loaded_never_changes(desk: Desk, cluster: Cluster) -> None:
    desk.put("a.csv", rates(27))
    desk.put("b.csv", "nonsense")
    desk.run()
    release(desk.warehouse, 2, "look again", "ana")
    changes = ("update ops.file_actions set actor = 'ben'", "delete from ops.file_actions", "truncate ops.file_actions")
    for change in (*changes, "update ops.files set status = 'held', reason = 'x' where file_id = 1"):
        for role in ("postgres", "loader", "controller"):
            connection = psycopg2.connect(cluster.dsn(desk.warehouse.info.dbname, role))
            try:
                with pytest.raises(errors.InsufficientPrivilege), connection.cursor() as cursor:
                    cursor.execute(change)
            finally:
                connection.close()


def test_a_database_that_is_not_migrated_is_no_traceback(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.environ.get("TIEOUT_WAREHOUSE_DSN") is None
    monkeypatch.setenv("TIEOUT_WAREHOUSE_DSN", "host=127.0.0.1 port=1 dbname=x connect_timeout=1")
    done = CliRunner().invoke(app, ["quarantine", "list"])
    assert (done.exit_code, "did not answer" in done.output) == (1, True)
