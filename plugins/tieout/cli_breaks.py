"""``tieout breaks``: open breaks, both sides of each, and what people decide about them.

What is decided is written down at once and takes effect in the next close.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from tieout.terminal import console, print_table, reported, warehouse

breaks_app = typer.Typer(
    no_args_is_help=True, help="Open breaks, and decisions about them that the next close takes."
)

Breaks = Annotated[
    list[str] | None, typer.Argument(metavar="BREAK", help="Open break, or as much of its name as is unique.")
]
Items = Annotated[list[str] | None, typer.Option("--item", help="Key of an item, as `breaks show` has it.")]
Reason = Annotated[str, typer.Option(help="Why it is right; kept for good.")]
Actor = Annotated[str, typer.Option(help="Who decides; by default the login name.")]


@breaks_app.command("list")
def breaks_list(
    code: Annotated[str | None, typer.Option(help="Only this break code.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only what this team or person works on.")] = None,
    severity: Annotated[str | None, typer.Option(help="critical, high, medium or low.")] = None,
    reconciliation: Annotated[str | None, typer.Option(help="Only this reconciliation.")] = None,
) -> None:
    """Show the open breaks of the last published close, the worst first."""
    from tieout import breaks
    from tieout.money import to_text

    with reported(), warehouse("controller") as connection:
        found = breaks.list_breaks(connection, code, owner, severity, reconciliation)
    print_table(
        ("break", "severity", "code", "items", "currency", "left", "right", "difference", "days", "owner"),
        [
            (each.handle, each.severity, each.break_code, each.source_references, each.currency,
             to_text(each.left_minor, each.currency), to_text(each.right_minor, each.currency),
             to_text(each.clearing_minor, each.currency), each.age_business_days, each.owner)
            for each in found
        ],
    )  # fmt: skip
    console.print(f"{len(found)} open" if found else "none", style="dim")


@breaks_app.command("show")
def breaks_show(
    named: Annotated[str, typer.Argument(metavar="BREAK", help="Open break, or the key of an item of any match.")],
) -> None:
    """Show both sides of a break down to file, line and raw record, the rule, the dates, and what was decided."""
    from tieout import breaks
    from tieout.money import to_text
    from tieout.sources import load_registry

    with reported(), warehouse("controller") as connection:
        found = breaks.describe(connection, named, load_registry())
    first = found.items[0]
    console.print(
        f"{first.break_id}\n{first.reconciliation}, {first.outcome} at the close of {first.business_date}"
        + (f", by {first.rule_id}" if first.rule_id else ""),
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    print_table(
        ("item", "side", "type", "amount", "currency", "clearing", "dated", "expected", "due", "open since"),
        [
            (item.item_key, item.side, item.item_type, to_text(item.amount_minor, item.currency), item.currency,
             item.clearing_account, item.value_date, item.expected_date, item.due_date, item.first_seen_business_date)
            for item in found.items
        ],
    )  # fmt: skip
    for item in found.items:
        console.print(f"\n{item.side} {item.item_key}", markup=False, highlight=False, soft_wrap=True)
        for what, text in found.sources[item.item_key]:
            console.print(f"  {what:<8}{text}", markup=False, highlight=False, soft_wrap=True)
    for action in found.actions:
        owner = f" to {action.owner}" if action.owner else ""
        ended = action.outcome + (f": {action.refusal}" if action.refusal else "")
        console.print(
            f"\naction {action.action_id}: {action.kind}{owner} of {len(action.item_keys)} item(s) by {action.actor}, "
            f"{action.acted_at:%Y-%m-%d %H:%M}, {ended}\n  {action.reason}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip


@breaks_app.command("link")
def breaks_link(reason: Reason, named: Breaks = None, item: Items = None, actor: Actor = "") -> None:
    """Make items one match: if they come to zero they are matched, else they are one break."""
    _act("link", reason, actor, named, item)


@breaks_app.command("unlink")
def breaks_unlink(reason: Reason, named: Breaks = None, item: Items = None, actor: Actor = "") -> None:
    """Take a match apart: its items are open again, and no rule pairs them with one another any more."""
    _act("unlink", reason, actor, named, item)


@breaks_app.command("force")
def breaks_force(reason: Reason, named: Breaks = None, item: Items = None, actor: Actor = "") -> None:
    """Accept items that come to zero as matched, in spite of dates, fees or status."""
    _act("force", reason, actor, named, item)


@breaks_app.command("exclude")
def breaks_exclude(reason: Reason, named: Breaks = None, item: Items = None, actor: Actor = "") -> None:
    """Set open items aside that come to zero together; they meet no partner any more."""
    _act("exclude", reason, actor, named, item)


@breaks_app.command("assign")
def breaks_assign(
    owner: Annotated[str, typer.Option("--to", help="Team or person who works on it from now on.")],
    reason: Reason, named: Breaks = None, item: Items = None, actor: Actor = "",
) -> None:  # fmt: skip
    """Give open breaks another owner, for as long as their items are open."""
    _act("assign", reason, actor, named, item, owner)


@breaks_app.command("comment")
def breaks_comment(
    text: Annotated[str, typer.Option(help="What is to be known of it.")],
    named: Breaks = None, item: Items = None, actor: Actor = "",
) -> None:  # fmt: skip
    """Say something about breaks; it is shown with them."""
    _act("comment", text, actor, named, item)


def _act(
    kind: str,
    reason: str,
    actor: str,
    named: Sequence[str] | None,
    item_keys: Sequence[str] | None,
    owner: str | None = None,
) -> None:
    import getpass

    from tieout import breaks

    with reported(), warehouse("controller") as connection:
        entered = breaks.act(connection, kind, reason, actor or getpass.getuser(), named or (), item_keys or (), owner)
    items = ", ".join(item.item_key for item in entered.items)
    console.print(
        f"action {entered.action_id}: {kind} {items}; the next close takes it", markup=False, highlight=False,
        soft_wrap=True,
    )  # fmt: skip
    for earlier in entered.displaces:
        console.print(
            f"it takes the place of action {earlier.action_id} ({earlier.kind} by {earlier.actor}), which the close "
            "will refuse",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
