-- Money lost: an outcome the controller's table leaves out.
with

items as (
    select count(*) as item_count, coalesce(sum(amount_minor), 0) as amount_minor
    from {{ ref('reconciliation_items') }}
    where close_id = {{ close_id() }}
),

summary as (
    select coalesce(sum(item_count), 0) as item_count, coalesce(sum(amount_minor), 0) as amount_minor
    from {{ ref('reconciliation_summary') }}
    where close_id = {{ close_id() }}
)

select *
from items
cross join summary
where items.item_count <> summary.item_count or items.amount_minor <> summary.amount_minor
