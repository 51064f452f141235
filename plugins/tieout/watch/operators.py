"""The Airflow face of the watch: operators that run the checks and deliver what they found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

from tieout.operators import LOADER, business_clock, require_name, warehouse

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tieout.watch.slack import SlackSender, WebhookSender

SLACK = "slack"
SLACK_TIMEOUT_S = 10


class CheckOperator(BaseOperator):
    """Run every check and turn what they find into incidents and outbox messages.

    :param warehouse_conn_id: e.g. ``"warehouse_loader"``; it reads everything and writes to ``ops``.
    """

    template_fields: Sequence[str] = ()

    def __init__(self, *, warehouse_conn_id: str = LOADER, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.warehouse_conn_id = require_name(warehouse_conn_id, "warehouse_conn_id")

    def execute(self, context: Context) -> dict[str, int]:
        """Check and record; a finding does not fail the task, it becomes an incident."""
        from tieout.sources import load_registry
        from tieout.watch.alerts import record
        from tieout.watch.checks import run_checks

        with warehouse(self.warehouse_conn_id) as connection:
            as_of = business_clock(connection)
            findings = run_checks(connection, load_registry(), as_of)
            recorded = record(connection, findings, as_of)
        for finding in findings:
            level = {"ok": self.log.info, "warn": self.log.warning, "fail": self.log.error}[finding.severity]
            level("%-4s %s · %s: %s", finding.severity, finding.check_name, finding.subject, finding.message)
        self.log.info("as of %s: %s findings, incidents %s", as_of.isoformat(), len(findings), recorded._asdict())
        return recorded._asdict()


class DeliverAlertsOperator(BaseOperator):
    """Send what the outbox holds to Slack; without a Slack connection everything is kept and shown.

    :param slack_conn_id: a connection of type ``slack`` (a bot token as password, the channel in its extra:
        ``{"channel": "#payments-alerts"}``) or ``slackwebhook``, e.g. ``"slack"``. It may be missing.
    :param warehouse_conn_id: e.g. ``"warehouse_loader"``.
    :param limit: messages sent one by one; more than that leave as one summary, e.g. ``20``.
    """

    template_fields: Sequence[str] = ()

    def __init__(
        self, *, slack_conn_id: str = SLACK, warehouse_conn_id: str = LOADER, limit: int = 20, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.slack_conn_id = require_name(slack_conn_id, "slack_conn_id")
        self.warehouse_conn_id = require_name(warehouse_conn_id, "warehouse_conn_id")
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        self.limit = limit

    def execute(self, context: Context) -> dict[str, Any]:
        """Deliver; fails when the receiver did, so that the retry shows."""
        from tieout.watch.alerts import deliver

        sender = slack_sender(self.slack_conn_id)
        with warehouse(self.warehouse_conn_id) as connection:
            done = deliver(
                connection, sender.send if sender else None, business_clock(connection), self.limit,
                sender.delivered if sender else None,
            )  # fmt: skip
        if sender is None:
            self.log.warning(
                "%s messages kept: there is no connection %r. To have them in Slack, add one of type slack "
                "(password: bot token, extra: {\"channel\": \"#payments-alerts\"}) or slackwebhook; "
                "until then the page Tieout shows them", done.waiting, self.slack_conn_id,
            )  # fmt: skip
        self.log.info("sent %s, failed %s, waiting %s", done.sent, done.failed, done.waiting)
        if done.failed:
            raise AirflowException(f"{done.failed} message(s) were not delivered and are kept: {done.last_error}")
        return done._asdict()


def slack_sender(conn_id: str) -> SlackSender | WebhookSender | None:
    """The sender for a Slack connection, by its type; None when there is no such connection.

    :raises AirflowFailException: the connection names no channel.
    """
    try:
        found = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return None
    from airflow.providers.slack.hooks.slack import SlackHook
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

    from tieout.watch.slack import SlackSender, WebhookSender

    # The client's own retries are off: a post whose answer was lost may have arrived, and is looked up first.
    if found.conn_type == "slackwebhook":
        hook = SlackWebhookHook(slack_webhook_conn_id=conn_id, timeout=SLACK_TIMEOUT_S, retry_handlers=[])
        return WebhookSender(hook)
    channel = found.extra_dejson.get("channel")
    if not channel:
        raise AirflowFailException(
            f'connection {conn_id!r} names no channel: add {{"channel": "#payments-alerts"}} to its extra'
        )
    return SlackSender(SlackHook(slack_conn_id=conn_id, timeout=SLACK_TIMEOUT_S, retry_handlers=[]), str(channel))
