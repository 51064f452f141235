with

breaks as (
    select * from {{ ref('break_register') }} where close_id = {{ close_id() }}
),

earlier_breaks as (
    select * from {{ ref('break_register') }} where close_id = {{ parent_close_id() }}
),

items as (
    select * from {{ ref('reconciliation_items') }} where close_id = {{ close_id() }}
),

earlier_items as (
    select * from {{ ref('reconciliation_items') }} where close_id = {{ parent_close_id() }} and status = 'open'
),

moved as (
    select action_id, unnest(item_keys) as item_key
    from {{ ref('break_actions') }}
    where close_id = {{ close_id() }} and outcome = 'applied' and kind in ('link', 'unlink', 'force', 'exclude')
),

-- What decided on the items of each break that the earlier close had.
decided as (
    select
        coalesce(earlier_items.group_id, earlier_items.item_key) as break_id,
        earlier_items.currency,
        string_agg(distinct items.rule_id, ', ') as rule_id,
        max(moved.action_id) as action_id
    from earlier_items
    inner join items on earlier_items.item_key = items.item_key
    left join moved on earlier_items.item_key = moved.item_key
    group by coalesce(earlier_items.group_id, earlier_items.item_key), earlier_items.currency
),

compared as (
    select
        coalesce(breaks.reconciliation, earlier_breaks.reconciliation) as reconciliation,
        coalesce(breaks.break_id, earlier_breaks.break_id) as break_id,
        coalesce(breaks.currency, earlier_breaks.currency) as currency,
        case
            when earlier_breaks.break_id is null then 'opened'
            when breaks.break_id is null then 'closed'
            else 'changed'
        end as change,
        earlier_breaks.break_code as earlier_break_code,
        breaks.break_code,
        earlier_breaks.item_count as earlier_item_count,
        breaks.item_count,
        earlier_breaks.left_minor as earlier_left_minor,
        breaks.left_minor,
        earlier_breaks.right_minor as earlier_right_minor,
        breaks.right_minor,
        earlier_breaks.exposure_minor as earlier_exposure_minor,
        breaks.exposure_minor,
        coalesce(breaks.source_references, earlier_breaks.source_references) as source_references,
        coalesce(breaks.first_seen_business_date, earlier_breaks.first_seen_business_date) as first_seen_business_date
    from breaks
    full outer join earlier_breaks
        on breaks.break_id = earlier_breaks.break_id and breaks.currency = earlier_breaks.currency
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        {{ parent_close_id() }} as earlier_close_id,
        compared.reconciliation,
        compared.break_id,
        compared.currency,
        change,
        earlier_break_code,
        break_code,
        coalesce(earlier_item_count, 0) as earlier_item_count,
        coalesce(item_count, 0) as item_count,
        coalesce(left_minor, 0) - coalesce(right_minor, 0)
        - coalesce(earlier_left_minor, 0) + coalesce(earlier_right_minor, 0) as clearing_change_minor,
        coalesce(earlier_exposure_minor, 0) as earlier_exposure_minor,
        coalesce(exposure_minor, 0) as exposure_minor,
        source_references,
        first_seen_business_date,
        case when change = 'closed' then decided.rule_id end as closed_by_rule_id,
        case when change = 'closed' then decided.action_id end as closed_by_action_id
    from compared
    left join decided on compared.break_id = decided.break_id and compared.currency = decided.currency
    -- What opens or closes differs from nothing.
    where (earlier_break_code, earlier_item_count, earlier_left_minor, earlier_right_minor, earlier_exposure_minor)
        is distinct from (break_code, item_count, left_minor, right_minor, exposure_minor)
)

select * from final
