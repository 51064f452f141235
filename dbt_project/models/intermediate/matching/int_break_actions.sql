-- What becomes of each action this close takes, judged by what the closes before it left. Of those that can be applied
-- and move the same item the last one counts: what was entered by mistake is mended by entering what is right.
{%- set earlier_columns = {
    'close_id': 'bigint', 'business_date': 'date', 'item_key': 'text', 'reconciliation': 'text', 'side': 'text',
    'status': 'text', 'break_code': 'text', 'exclusion_reason': 'text', 'group_id': 'text', 'amount_minor': 'bigint',
    'currency': 'text', 'clearing_account': 'text', 'bank_account': 'text',
} %}

with

close_actions as (
    select * from {{ source('ops', 'close_actions') }} where close_id = {{ close_id() }}
),

break_actions as (
    select * from {{ source('ops', 'break_actions') }}
),

compared_accounts as (
    select bank_account from {{ ref('bank_accounts') }} where is_in_system_book
),

close_chain as (
    select close_id from ops.close_chain({{ parent_close_id() }})
),

actions as (
    select break_actions.*, break_actions.kind in ('link', 'unlink', 'force', 'exclude') as is_moving
    from break_actions
    inner join close_actions on break_actions.action_id = close_actions.action_id
),

named as (
    select distinct actions.action_id, actions.kind, actions.is_moving, wanted.item_key
    from actions
    cross join unnest(actions.item_keys) as wanted (item_key)
),

-- How each item ended the last close it was in; through the mart's key, so that nothing is read but what was named.
latest as (
    select distinct on (wanted.item_key) found.*
    from (select distinct item_key from named) as wanted
    cross join close_chain
    cross join lateral (
        select {{ earlier_columns.keys() | join(', ') }}
        from {{ earlier_rows('closes', 'reconciliation_items', earlier_columns) }} as earlier
        where earlier.close_id = close_chain.close_id and earlier.item_key = wanted.item_key

        offset 0
    ) as found
    order by wanted.item_key, found.close_id desc
),

items as (
    select
        named.action_id,
        named.kind,
        named.item_key,
        latest.close_id,
        latest.reconciliation,
        latest.status,
        latest.group_id,
        latest.currency,
        latest.clearing_account,
        case latest.side when 'left' then latest.amount_minor else -latest.amount_minor end as clearing_minor,
        coalesce(latest.close_id = {{ parent_close_id() }} and latest.status = 'open', false) as is_open,
        -- What is not compared any more leaves with this close.
        case when compared_accounts.bank_account is null and latest.reconciliation = 'ledger_bank' then latest.bank_account end as dropped_account,
        concat_ws(' ', latest.item_key, 'is', latest.status, latest.break_code, latest.exclusion_reason, 'since the close of',
            latest.business_date) as standing
    from named
    left join latest on named.item_key = latest.item_key
    left join compared_accounts on latest.bank_account = compared_accounts.bank_account
),

judged as (
    select
        action_id,
        kind,
        count(*) as item_count,
        min(item_key) filter (where close_id is null) as unknown_key,
        min(standing) filter (where not is_open) as closed_item,
        min(dropped_account) as dropped_account,
        count(distinct reconciliation) as reconciliation_count,
        count(distinct clearing_account) as account_count,
        count(distinct currency) as currency_count,
        -- Of a match that is taken apart.
        bool_and(group_id is not null) and count(distinct (close_id, group_id)) = 1 as is_one_match,
        min(close_id) as matched_close_id,
        min(group_id) as matched_group_id,
        min(status) as matched_status
    from items
    group by action_id, kind
),

differences as (
    select
        action_id,
        string_agg(difference_minor || ' minor units of ' || currency || ' on ' || clearing_account, ', ' order by clearing_account, currency) as difference
    from (
        select action_id, clearing_account, currency, sum(clearing_minor) as difference_minor
        from items
        group by action_id, clearing_account, currency
        having sum(clearing_minor) <> 0
    ) as sums
    group by action_id
),

match_sizes as (
    select judged.action_id, count(*) as match_item_count
    from judged
    inner join {{ earlier_rows('closes', 'reconciliation_items', earlier_columns) }} as earlier
        on judged.matched_close_id = earlier.close_id
        and judged.matched_status = earlier.status
        and judged.matched_group_id = earlier.group_id
    where judged.kind = 'unlink' and judged.is_one_match
    group by judged.action_id
),

refusals as (
    select
        judged.*,
        case
            when judged.unknown_key is not null then 'no close before this one knows ' || judged.unknown_key
            when judged.kind = 'comment' then null
            when judged.dropped_account is not null
                then judged.dropped_account || ' is not compared with our own book any more'
            when judged.kind = 'unlink' then case
                when not judged.is_one_match then 'its items are not one match'
                when match_sizes.match_item_count <> judged.item_count
                    then 'the match has ' || match_sizes.match_item_count || ' items, and ' || judged.item_count || ' are named'
            end
            when judged.closed_item is not null then judged.closed_item
            when judged.kind = 'assign' then null
            when judged.kind in ('link', 'force') and judged.item_count < 2 then 'it names one item alone'
            when judged.kind in ('link', 'force') and judged.reconciliation_count > 1 then 'its items are not of one reconciliation'
            when judged.kind = 'link' and judged.account_count > 1 then 'its items are not of one clearing account'
            when judged.kind = 'link' and judged.currency_count > 1 then 'its items are not of one currency'
            when judged.kind in ('force', 'exclude') and differences.difference is not null
                then 'its items do not come to zero, ' || differences.difference || ': a difference needs a write-off'
        end as refusal
    from judged
    left join differences on judged.action_id = differences.action_id
    left join match_sizes on judged.action_id = match_sizes.action_id
),

displaced as (
    select earlier.action_id, max(later.action_id) as by_action_id
    from named as earlier
    inner join named as later on earlier.item_key = later.item_key and earlier.action_id < later.action_id
    inner join refusals on later.action_id = refusals.action_id and refusals.refusal is null
    where earlier.is_moving and later.is_moving
    group by earlier.action_id
),

ended as (
    select
        refusals.*,
        coalesce(
            refusals.refusal,
            'action ' || displaced.by_action_id || ' came after it and moves some of its items'
        ) as final_refusal
    from refusals
    left join displaced on refusals.action_id = displaced.action_id
),

final as (
    select
        actions.action_id,
        actions.kind,
        -- Each once, however often it was named.
        array(select distinct unnest(actions.item_keys) order by 1) as item_keys,
        actions.owner,
        actions.reason,
        actions.actor,
        actions.acted_at,
        case when ended.final_refusal is null then 'applied' else 'refused' end as outcome,
        ended.final_refusal as refusal,
        ended.item_count,
        case when actions.kind = 'unlink' and ended.final_refusal is null then ended.matched_close_id end as matched_close_id
    from actions
    inner join ended on actions.action_id = ended.action_id
)

select * from final
