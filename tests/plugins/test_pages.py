"""The page in Airflow's UI: for those who may see the website only, and nothing on it can run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, date, datetime
from typing import Any

import pytest
from airflow import settings
from airflow.api_fastapi.app import create_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models.revoked_token import RevokedToken
from fastapi.testclient import TestClient
from psycopg2.extensions import connection as Connection

import tieout_plugin
from tieout import overview
from tieout.overview import Balance, Books, Head, OpenBreaks, Proof, Side
from tieout.pages import tieout_page
from tieout.watch.alerts import deliver, record
from tieout.watch.findings import Finding

AS_OF = datetime(2026, 10, 30, 4, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script> & \"q\""


def books(**more: Any) -> Books:
    shown: dict[str, Any] = {
        "head": Head("global", date(2026, 10, 29), 3, AS_OF, 3, "EUR"),
        "sides": [Side("payment_processor", "left", 1200, 1100, 0, 100, 90)],
        "breaks": [OpenBreaks("processor_bank", "PSP_NOT_BANK", False, 2, 2, 123456, date(2026, 10, 27), "treasury")],
        "proofs": [Proof("clearing", 12, 0, None)],
        "balances": [Balance("EUR", "bank", 100), Balance("EUR", "revenue", -100)],
        "resolved_incidents": 0,
    }
    # What the page does not show is empty here.
    rest: dict[str, Any] = {field.name: [] for field in fields(Books)}
    return Books(**{**rest, **shown, **more})


@pytest.fixture
def with_books(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "read", lambda *_, **__: books())


def incident(connection: Connection, severity: Any = "fail", subject: str = HOSTILE) -> None:
    record(connection, [Finding("quarantine", subject, severity, HOSTILE, {}, "payments-data")], AS_OF)


def test_before_the_first_close_it_says_what_to_do(warehouse: Connection) -> None:
    page = tieout_page(warehouse)
    assert "Run the DAGs <b>ingest</b> and <b>close</b>" in page
    assert "Incidents: 0 open" in page


def test_it_shows_the_head_close_its_proof_and_its_breaks(warehouse: Connection, with_books: None) -> None:
    page = tieout_page(warehouse)
    for text in ("business date 2026-10-29", "close 3", ">proven<", "0 unexplained", "PSP_NOT_BANK", "1,234.56 EUR"):
        assert text in page


def test_books_that_are_not_proven_say_so(warehouse: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = books(proofs=[Proof("clearing", 12, 1, f"psp_clearing EUR {HOSTILE}")])
    monkeypatch.setattr(overview, "read", lambda *_, **__: broken)
    page = tieout_page(warehouse)
    assert "NOT PROVEN" in page
    assert "<script" not in page


def test_an_incident_is_shown_with_its_messages_through_its_life(warehouse: Connection, with_books: None) -> None:
    incident(warehouse)
    page = tieout_page(warehouse)
    assert "Incidents: 1 open" in page
    assert "opened: FAIL · quarantine" in page
    assert "(kept, not sent)" in page

    def down(text: str, key: str) -> None:
        raise ConnectionError(HOSTILE)

    deliver(warehouse, down, AS_OF)
    assert "kept after 1 attempt(s): ConnectionError" in tieout_page(warehouse)
    deliver(warehouse, lambda text, key: None, AS_OF)
    assert "(sent 20" in tieout_page(warehouse)
    incident(warehouse, "ok")
    page = tieout_page(warehouse)
    assert "Incidents: 0 open, 1 resolved" in page
    assert "resolved: RESOLVED · quarantine" in page


def test_nothing_from_the_database_can_run(warehouse: Connection, with_books: None) -> None:
    incident(warehouse)
    page = tieout_page(warehouse)
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;q&quot;" in page
    assert "&amp;amp;" not in page


# --- who may see it


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "s" * 64)
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "ana:viewer")
    # Whether a token was revoked is the one thing that a login asks the metadata database.
    RevokedToken.__table__.create(settings.engine, checkfirst=True)  # type: ignore[attr-defined]
    create_auth_manager().init()
    yield TestClient(tieout_plugin.app)
    purge_cached_app()


def bearer(username: str = "ana", role: str = "viewer") -> dict[str, str]:
    token = create_auth_manager().generate_jwt(SimpleAuthManagerUser(username=username, role=role))
    return {"Authorization": f"Bearer {token}"}


def test_strangers_get_401_on_every_route(client: TestClient) -> None:
    routes = [(method, route.path) for route in tieout_plugin.app.routes for method in route.methods]  # type: ignore[attr-defined]
    assert ("GET", "/") in routes
    for method, path in routes:
        assert client.request(method, path).status_code == 401, (method, path)
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", ""])
def test_a_bad_token_is_turned_away(client: TestClient, token: str) -> None:
    assert client.get("/", headers={"Authorization": f"Bearer {token}"}).status_code in (401, 403)


def test_a_viewer_sees_the_page_and_nothing_may_frame_or_run_in_it(
    client: TestClient, warehouse: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = warehouse.info
    dsn = f"postgresql://postgres@{host.host}:{host.port}/{host.dbname}"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_LOADER", dsn)
    answer = client.get("/", headers=bearer())
    assert answer.status_code == 200
    assert "Incidents" in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_the_page_reads_as_the_reader_when_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE_READER", raising=False)
    assert tieout_plugin.page_connection() == "warehouse_loader"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_READER", "postgresql://reader@127.0.0.1:1/d")
    assert tieout_plugin.page_connection() == "warehouse_reader"


def test_a_warehouse_that_is_down_tells_no_secrets(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_LOADER", "postgresql://u:geheim@127.0.0.1:1/d")
    answer = client.get("/", headers=bearer())
    assert answer.status_code == 503
    assert "geheim" not in answer.text
    assert "127.0.0.1" not in answer.text


def test_the_navigation_leads_to_the_page() -> None:
    plugin = tieout_plugin.TieoutPlugin
    (app,), (view,) = plugin.fastapi_apps, plugin.external_views
    assert view["href"] == f"{app['url_prefix']}/"
    assert view["destination"] == "nav"
