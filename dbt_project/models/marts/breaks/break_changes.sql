with

breaks as (
    select * from {{ ref('break_register') }} where close_id = {{ close_id() }}
),

earlier_breaks as (
    select * from {{ ref('break_register') }} where close_id = {{ parent_close_id() }}
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
        reconciliation,
        break_id,
        currency,
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
        first_seen_business_date
    from compared
    where change <> 'changed'
        or (earlier_break_code, earlier_item_count, earlier_left_minor, earlier_right_minor, earlier_exposure_minor)
        is distinct from (break_code, item_count, left_minor, right_minor, exposure_minor)
)

select * from final
