-- Money lost: a break that nobody sees because its code or severity is not in the seeds.
with

items as (
    select count(*) as item_count
    from {{ ref('reconciliation_items') }}
    where close_id = {{ close_id() }} and status = 'open'
),

breaks as (
    select coalesce(sum(item_count), 0) as item_count
    from {{ ref('break_register') }}
    where close_id = {{ close_id() }}
)

select *
from items
cross join breaks
where items.item_count <> breaks.item_count
