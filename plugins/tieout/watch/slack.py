"""Slack as a receiver of alerts, over a hook that knows the token: post once, and read back what arrived."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from slack_sdk.errors import SlackApiError

from tieout.watch.alerts import RefusedError

# Slack asks for a pause of seconds under load; a longer one is left to the next run.
PAUSE_S_MAX = 30
# Answers about the message itself: the same text will never be taken, the next one may.
REFUSALS = ("msg_too_long", "no_text", "invalid_metadata_format", "metadata_too_large")
HISTORY_PAGES_MAX = 5
# Our clock and Slack's differ a little.
CLOCK_SKEW = timedelta(minutes=5)

log = logging.getLogger(__name__)


class SlackSender:
    """Slack's Web API. Each message carries its key as metadata, by which it is found again.

    :param hook: has ``call(method, ...)`` and ``get_channel_id(name)``, as Airflow's SlackHook; it must not
        retry by itself.
    :param channel: ``"#payments-alerts"`` or a channel's id.
    """

    def __init__(self, hook: Any, channel: str) -> None:
        self.hook = hook
        self.channel = channel

    def send(self, text: str, key: str) -> None:
        """Post a text.

        :raises RefusedError: Slack will never take this text.
        :raises SlackApiError: Slack refused for another reason.
        :raises OSError: no answer came in time; the message may have arrived.
        """
        body = {
            "channel": self.channel, "text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False,
            "metadata": {"event_type": "tieout_alert", "event_payload": {"key": key}},
        }  # fmt: skip
        try:
            _unhurried(lambda: self.hook.call("chat.postMessage", json=body))
        except SlackApiError as error:
            reason = _reason(error)
            if reason in REFUSALS:
                raise RefusedError(f"Slack answered {reason}") from error
            raise

    def delivered(self, since: datetime) -> list[str]:
        """Keys of the channel's messages since then; none when the token lacks the scope to read the channel."""
        query: dict[str, Any] = {
            "oldest": f"{(since - CLOCK_SKEW).timestamp():.6f}", "include_all_metadata": True, "limit": 200,
        }  # fmt: skip
        keys = []
        try:
            named = self.channel.startswith("#")
            query["channel"] = self.hook.get_channel_id(self.channel[1:]) if named else self.channel
            for _ in range(HISTORY_PAGES_MAX):
                page = _unhurried(lambda: self.hook.call("conversations.history", params=dict(query)))
                for message in page.get("messages") or []:
                    key = ((message.get("metadata") or {}).get("event_payload") or {}).get("key")
                    if isinstance(key, str):
                        keys.append(key)
                query["cursor"] = (page.get("response_metadata") or {}).get("next_cursor")
                if not query["cursor"]:
                    break
        except SlackApiError as error:
            if _reason(error) != "missing_scope":
                raise
            log.warning("the Slack token may not read the channel: a message in doubt may arrive twice")
        return keys


class WebhookSender:
    """A Slack incoming webhook; it has no way to look anything up.

    :param hook: has ``send(text=...)``, as Airflow's SlackWebhookHook.
    """

    delivered = None

    def __init__(self, hook: Any) -> None:
        self.hook = hook

    def send(self, text: str, key: str) -> None:
        """Post a text; a webhook cannot carry the key."""
        self.hook.send(text=text, unfurl_links=False, unfurl_media=False)


def _unhurried(call: Callable[[], Any]) -> Any:
    """Call; once more after the pause that Slack asked for, when it is a short one."""
    try:
        return call()
    except SlackApiError as error:
        status = getattr(error.response, "status_code", None)
        pause = str(error.response.headers.get("Retry-After", "")) if status == 429 else ""
        if not pause.isdecimal() or int(pause) > PAUSE_S_MAX:
            raise
        # A post turned away for its rate has surely not arrived.
        time.sleep(int(pause))
        return call()


def _reason(error: SlackApiError) -> str:
    return str(error.response.get("error", ""))
