"""The command line: what it offers, how it refuses, and that it starts without loading what it does not need."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tieout.cli import BAD_INPUT, FAILED, app

COMMANDS = {
    "run", "up", "status", "clean", "read", "sandbox", "migrate", "deploy", "docs", "close", "incidents", "proof",
    "verify", "source", "quarantine", "breaks", "period",
}  # fmt: skip
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIEOUT_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("TIEOUT_WAREHOUSE_DSN", raising=False)
    return tmp_path / "state"


def tieout(*arguments: str) -> tuple[int, str]:
    """Run a command; its exit code and all it printed."""
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output


def test_help_names_every_command() -> None:
    code, text = tieout("--help")
    assert code == 0
    assert set(re.findall(r"^│ (\w+) ", text, re.MULTILINE)) == COMMANDS


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run", "--payments-per-day", "0"],
        ["run", "--payments-per-day", "many"],
        ["proof", "yesterday"],
        ["sandbox", "advance", "2026-13-01"],
        ["close", "abort", "x"],
        ["read"],
    ],
)
def test_bad_arguments_are_refused(arguments: list[str]) -> None:
    assert tieout(*arguments)[0] == BAD_INPUT


@pytest.mark.parametrize("arguments", [["status"], ["incidents"], ["proof", "2026-10-30"], ["close", "abort", "1"]])
def test_without_books_it_says_how_to_get_some(arguments: list[str], state: Path) -> None:
    code, text = tieout(*arguments)
    assert code == BAD_INPUT
    assert "make run" in text
    assert not (state / "postgres").exists()


def test_a_database_that_does_not_answer_is_named(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEOUT_WAREHOUSE_DSN", "postgresql://nobody@127.0.0.1:1/warehouse")
    code, text = tieout("status")
    assert code == FAILED
    assert "did not answer" in text
    assert "port 1 failed" in text


def test_a_full_disk_is_a_message(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tieout.local import walkthrough

    def fill(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(walkthrough, "run", fill)
    code, text = tieout("run")
    assert code == FAILED
    assert "the disk is full" in text


def test_a_bug_is_not_dressed_up(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tieout.local import walkthrough

    def stumble(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(walkthrough, "run", stumble)
    assert isinstance(CliRunner().invoke(app, ["run"]).exception, ZeroDivisionError)


def test_a_wanted_port_in_use_stops_before_anything_is_made(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("TIEOUT_PG_PORT", str(other.getsockname()[1]))
        code, text = tieout("run")
    assert code == BAD_INPUT
    assert re.search(r"port \d+ is in use", text)


def test_clean_asks_first(state: Path) -> None:
    done = CliRunner().invoke(app, ["clean"], input="n\n")
    assert done.exit_code == FAILED
    assert str(state) in done.output.replace("\n", "")


def test_the_formats_that_are_read_can_be_listed() -> None:
    code, text = tieout("read", "--formats")
    assert code == 0
    named = set(re.findall(r"^(\S+)", text, re.MULTILINE))
    assert {"mt940", "adyen.settlement_details", "wechatpay.trade_bill"} <= named


def test_reading_a_file_loads_neither_airflow_nor_dbt(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no statement at all\n")
    program = (
        "import sys, json\nfrom tieout.cli import app\n"
        f"try: app(['read', {str(file)!r}, '--json'])\n"
        "except SystemExit as done: code = done.code\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(json.dumps([code, sorted(loaded & {'airflow', 'dbt', 'psycopg2', 'httpx', 'pandas'})]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "plugins")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    first, last = done.stdout.splitlines()
    assert json.loads(first)["status"] == "quarantined"
    assert json.loads(last) == [0, []]
