-- What actions say of the items of this close: those it took, and those that earlier closes applied and that still stand.
{%- set action_columns = {
    'close_id': 'bigint', 'action_id': 'bigint', 'kind': 'text', 'item_keys': 'text[]', 'owner': 'text', 'reason': 'text', 'outcome': 'text',
} %}
{%- set earlier_columns = {
    'close_id': 'bigint', 'item_key': 'text', 'side': 'text', 'status': 'text', 'strong_key': 'text', 'weak_key': 'text',
} %}
{{ config(indexes=[{'columns': ['item_key'], 'unique': true}]) }}

with

actions as (
    select * from {{ ref('int_break_actions') }} where outcome = 'applied'
),

earlier_actions as (
    select * from {{ earlier_rows('closes', 'break_actions', action_columns) }} as earlier
),

close_chain as (
    select close_id from ops.close_chain({{ parent_close_id() }})
),

standing as (
    select {{ close_id() }} as close_id, action_id, kind, item_keys, owner, reason, matched_close_id from actions
    union all
    select earlier_actions.close_id, action_id, kind, item_keys, owner, reason, null
    from earlier_actions
    inner join close_chain on earlier_actions.close_id = close_chain.close_id
    where outcome = 'applied' and kind in ('link', 'unlink', 'assign', 'comment')
),

named as (
    select distinct
        standing.close_id, standing.action_id, standing.kind, standing.owner, standing.reason, wanted.item_key,
        coalesce(standing.matched_close_id, {{ parent_close_id() }}) as found_in_close_id,
        standing.matched_close_id is not null as is_taken_apart
    from standing
    cross join unnest(standing.item_keys) as wanted (item_key)
),

-- Those that are here: left open by the parent, or of a match that is taken apart now.
items as (
    select distinct found.item_key, found.side, found.strong_key, found.weak_key
    from (select distinct item_key, found_in_close_id, is_taken_apart from named) as wanted
    cross join lateral (
        select {{ earlier_columns.keys() | join(', ') }}
        from {{ earlier_rows('closes', 'reconciliation_items', earlier_columns) }} as earlier
        where earlier.close_id = wanted.found_in_close_id and earlier.item_key = wanted.item_key

        offset 0
    ) as found
    where found.status = 'open' or wanted.is_taken_apart
),

-- The last action that moved an item counts. A link that only one item is left of holds nothing together.
moves as (
    select distinct on (named.item_key) named.item_key, named.action_id, named.kind
    from named
    inner join items on named.item_key = items.item_key
    where named.kind in ('link', 'unlink', 'force', 'exclude')
    order by named.item_key, named.close_id desc, named.action_id desc
),

grouped as (
    select
        item_key,
        'manual_' || kind as manual_rule_id,
        'manual:' || action_id as manual_group_id,
        count(*) over (partition by action_id) as member_count
    from moves
    where kind <> 'unlink'
),

unlinked as (
    select distinct named.action_id, items.item_key, items.side, items.strong_key, items.weak_key
    from named
    inner join items on named.item_key = items.item_key
    where named.kind = 'unlink'
),

-- What was taken apart does not meet again: the right item leaves the key that a left one it was matched with still has, or
-- is named by. Where one side alone is left, all of it leaves the key that another one has.
left_apart as (
    select *, min(side) over (partition by action_id) = max(side) over (partition by action_id) as is_one_sided
    from unlinked
),

barred as (
    select
        mine.item_key,
        coalesce(bool_or(
            others.strong_key = mine.strong_key
            or others.strong_key = any ({{ named_keys('mine.strong_key') }})
            or mine.strong_key = any ({{ named_keys('others.strong_key') }})
        ), false) as is_strong_key_barred,
        coalesce(bool_or(others.weak_key = mine.weak_key), false) as is_weak_key_barred
    from left_apart as mine
    left join left_apart as others
        on mine.action_id = others.action_id
        and mine.item_key <> others.item_key
        and (mine.is_one_sided or (mine.side = 'right' and others.side = 'left'))
    group by mine.item_key
),

assigned as (
    select distinct on (item_key) item_key, owner, action_id
    from named
    where kind = 'assign'
    order by item_key, close_id desc, action_id desc
),

commented as (
    select distinct on (item_key) item_key, reason, action_id
    from named
    where kind = 'comment'
    order by item_key, close_id desc, action_id desc
),

final as (
    select
        items.item_key,
        grouped.manual_rule_id,
        grouped.manual_group_id,
        barred.item_key is not null as is_unlinked,
        coalesce(barred.is_strong_key_barred, false) as is_strong_key_barred,
        coalesce(barred.is_weak_key_barred, false) as is_weak_key_barred,
        assigned.owner as assigned_owner,
        assigned.action_id as assigned_by_action_id,
        commented.reason as last_comment,
        commented.action_id as last_comment_action_id
    from items
    left join grouped
        on items.item_key = grouped.item_key and (grouped.member_count > 1 or grouped.manual_rule_id = 'manual_exclude')
    left join barred on items.item_key = barred.item_key
    left join assigned on items.item_key = assigned.item_key
    left join commented on items.item_key = commented.item_key
)

select * from final
