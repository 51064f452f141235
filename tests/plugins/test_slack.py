"""The outbox through Airflow's own Slack hooks, to a local server that plays Slack."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import pytest
from airflow.sdk.exceptions import AirflowFailException
from psycopg2.extensions import connection as Connection

from tieout.watch import operators
from tieout.watch.alerts import Delivery, deliver, record
from tieout.watch.findings import Finding
from tieout.watch.slack import SlackSender

AS_OF = datetime(2026, 10, 30, 4, tzinfo=UTC)
CHANNEL = "C0123456789"


class FakeSlack:
    """Answers by a script: each entry is a status, or ``hang`` (takes the message, gives no answer in time)."""

    def __init__(self) -> None:
        self.script: list[tuple[int | str, dict[str, Any], dict[str, str]]] = []
        self.posted: list[dict[str, Any]] = []
        self.attempts = 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.endswith("/conversations.history"):
                    return self._history(dict(parse_qsl(content.decode())))
                fake.attempts += 1
                body = json.loads(content)
                status, answer, headers = fake.script.pop(0) if fake.script else (200, {"ok": True}, {})
                if status in (200, "hang") and answer.get("ok", True):
                    fake.posted.append(body)
                if status == "hang":
                    time.sleep(2)
                    return None
                return self._answer(int(status), answer, headers)

            def _history(self, asked: dict[str, str]) -> None:
                # One message a page, so that reading on is tested too; without metadata unless it is asked for.
                page = int(asked.get("cursor", 0))
                last = page + 1 >= len(fake.posted)
                messages = [
                    {"text": one["text"], "metadata": one["metadata"] if "include_all_metadata" in asked else None}
                    for one in fake.posted[page : page + 1]
                    if asked["channel"] == CHANNEL and float(asked["oldest"]) < time.time()
                ]
                following = {"next_cursor": "" if last else str(page + 1)}
                self._answer(200, {"ok": True, "messages": messages, "response_metadata": following}, {})

            def _answer(self, status: int, answer: dict[str, Any], headers: dict[str, str]) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                text = b"ok" if self.path == "/hook" and status == 200 else json.dumps(answer).encode()
                self.wfile.write(text)

            def log_message(self, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def will(self, status: int | str, error: str | None = None, **headers: str) -> None:
        answer = {"ok": error is None and status in (200, "hang")} | ({"error": error} if error else {})
        self.script.append((status, answer, {name.replace("_", "-"): value for name, value in headers.items()}))


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    fake = FakeSlack()
    settings = {
        "conn_type": "slack",
        "password": "xoxb-test",
        "extra": {"channel": CHANNEL, "base_url": f"{fake.url}/api/"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_SLACK", json.dumps(settings))
    monkeypatch.setattr(operators, "SLACK_TIMEOUT_S", 1)
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


def alert(connection: Connection, *subjects: str, severity: Any = "fail") -> None:
    found = [Finding("volume", subject, severity, "<!channel> too few", {}, "payments-data") for subject in subjects]
    record(connection, found, AS_OF)


def send(connection: Connection, limit: int = 20) -> Delivery:
    sender = operators.slack_sender("slack")
    assert isinstance(sender, SlackSender)
    return deliver(connection, sender.send, AS_OF, limit, sender.delivered)


def test_a_message_arrives_as_plain_text_with_its_key(warehouse: Connection, slack: FakeSlack) -> None:
    alert(warehouse, "payments.captures")
    assert send(warehouse) == (1, 0, 0, False, None)
    (post,) = slack.posted
    assert post["channel"] == CHANNEL
    assert "&lt;!channel&gt; too few" in post["text"]
    assert post["mrkdwn"] is False
    assert post["metadata"]["event_payload"]["key"].startswith("tieout-")


def test_a_short_pause_is_taken_and_a_long_one_is_left_to_the_next_run(warehouse: Connection, slack: FakeSlack) -> None:
    alert(warehouse, "a")
    slack.will(429, "ratelimited", Retry_After="1")
    assert send(warehouse).sent == 1
    alert(warehouse, "a", "b")
    slack.will(429, "ratelimited", Retry_After="3600")
    started = time.monotonic()
    done = send(warehouse)
    assert (done.failed, done.waiting) == (1, 1)
    assert "ratelimited" in (done.last_error or "")
    assert time.monotonic() - started < 5
    assert send(warehouse).sent == 1
    assert len(slack.posted) == 2


@pytest.mark.parametrize(("status", "error"), [(500, "internal_error"), (404, "not_found"), (200, "channel_not_found")])
def test_an_error_keeps_the_message(warehouse: Connection, slack: FakeSlack, status: int, error: str) -> None:
    alert(warehouse, "a")
    slack.will(status, error)
    done = send(warehouse)
    assert (done.sent, done.failed, done.waiting, slack.attempts) == (0, 1, 1, 1)
    assert error in (done.last_error or "")
    assert send(warehouse).sent == 1
    assert len(slack.posted) == 1


def test_an_answer_that_never_comes_does_not_double_the_message(warehouse: Connection, slack: FakeSlack) -> None:
    alert(warehouse, "a")
    slack.will("hang")
    assert send(warehouse).failed == 1
    assert send(warehouse) == (1, 0, 0, False, None)
    assert len(slack.posted) == 1


def test_a_message_that_slack_never_takes_lets_the_next_pass(warehouse: Connection, slack: FakeSlack) -> None:
    alert(warehouse, "a", "b")
    slack.will(200, "msg_too_long")
    done = send(warehouse)
    assert (done.sent, done.failed) == (1, 1)


def test_a_server_that_is_down(warehouse: Connection, slack: FakeSlack) -> None:
    alert(warehouse, "a")
    slack.server.shutdown()
    slack.server.server_close()
    done = send(warehouse)
    assert (done.failed, done.waiting) == (1, 1)
    slack.server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=slack.server.serve_forever, daemon=True).start()


def test_a_storm_is_one_post_and_its_end_another(warehouse: Connection, slack: FakeSlack) -> None:
    subjects = [f"s{number}" for number in range(30)]
    alert(warehouse, *subjects)
    slack.will("hang")
    assert send(warehouse).failed == 30
    assert send(warehouse).sent == 30
    alert(warehouse, *subjects, severity="ok")
    assert send(warehouse).summarised
    assert [post["text"].split(" alerts")[0] for post in slack.posted] == ["30", "30"]


def test_a_webhook_is_a_connection_too(
    warehouse: Connection, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SLACK", json.dumps({"conn_type": "slackwebhook", "password": f"{slack.url}/hook"}))
    sender = operators.slack_sender("slack")
    assert sender is not None
    alert(warehouse, "a")
    slack.will(500)
    assert deliver(warehouse, sender.send, AS_OF, delivered=sender.delivered).failed == 1
    assert deliver(warehouse, sender.send, AS_OF, delivered=sender.delivered).sent == 1
    assert "too few" in slack.posted[0]["text"]


def test_no_connection_is_nobody_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SLACK", raising=False)
    assert operators.slack_sender("slack") is None


def test_a_connection_without_channel_says_what_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SLACK", json.dumps({"conn_type": "slack", "password": "x"}))
    with pytest.raises(AirflowFailException, match="#payments-alerts"):
        operators.slack_sender("slack")
