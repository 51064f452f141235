-- Money lost: a break that opened, changed or closed and that nobody was shown. Open before + opened - closed = open now.
with

registered as (
    select
        currency,
        count(*) filter (where close_id = {{ close_id() }}) - count(*) filter (where close_id = {{ parent_close_id() }}) as break_count,
        sum(case when close_id = {{ close_id() }} then item_count else -item_count end) as item_count,
        sum(case when close_id = {{ close_id() }} then clearing_minor else -clearing_minor end) as clearing_minor,
        sum(case when close_id = {{ close_id() }} then exposure_minor else -exposure_minor end) as exposure_minor
    from {{ ref('break_register') }}
    where close_id in ({{ close_id() }}, {{ parent_close_id() }})
    group by currency
),

changed as (
    select
        currency,
        count(*) filter (where change = 'opened') - count(*) filter (where change = 'closed') as break_count,
        sum(item_count - earlier_item_count) as item_count,
        sum(clearing_change_minor) as clearing_minor,
        sum(exposure_minor - earlier_exposure_minor) as exposure_minor
    from {{ ref('break_changes') }}
    where close_id = {{ close_id() }}
    group by currency
)

select *
from registered
full outer join changed on registered.currency = changed.currency
where coalesce(registered.break_count, 0) <> coalesce(changed.break_count, 0)
    or coalesce(registered.item_count, 0) <> coalesce(changed.item_count, 0)
    or coalesce(registered.clearing_minor, 0) <> coalesce(changed.clearing_minor, 0)
    or coalesce(registered.exposure_minor, 0) <> coalesce(changed.exposure_minor, 0)
