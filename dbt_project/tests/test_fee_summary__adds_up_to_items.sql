-- Money lost: a fee that was compared and is in no total. Compared = first compared now + compared by the parent close.
with

items as (
    select
        fee_currency as currency,
        count(*) as line_count,
        sum(expected_fee_minor) as expected_fee_minor,
        sum(fee_minor) as actual_fee_minor,
        coalesce(sum(fee_minor - expected_fee_minor) filter (where break_code = 'FEE_VARIANCE'), 0) as open_variance_minor
    from {{ ref('reconciliation_items') }}
    where close_id = {{ close_id() }} and side = 'right' and expected_fee_minor is not null
    group by fee_currency
),

again as (
    select
        items.fee_currency as currency,
        count(*) as line_count,
        sum(items.expected_fee_minor) as expected_fee_minor,
        sum(items.fee_minor) as actual_fee_minor
    from {{ ref('reconciliation_items') }} as items
    where items.close_id = {{ close_id() }} and items.side = 'right' and items.expected_fee_minor is not null and items.is_carried
        and not exists (
            select
            from {{ ref('reconciliation_items') }} as earlier
            where earlier.close_id = {{ parent_close_id() }}
                and earlier.item_key = items.item_key
                and earlier.expected_fee_minor is null
        )
    group by items.fee_currency
),

summary as (
    select
        currency,
        sum(line_count) as line_count,
        sum(expected_fee_minor) as expected_fee_minor,
        sum(actual_fee_minor) as actual_fee_minor,
        sum(open_variance_minor) as open_variance_minor
    from {{ ref('fee_summary') }}
    where close_id = {{ close_id() }}
    group by currency
)

select *
from items
left join again on items.currency = again.currency
full outer join summary on items.currency = summary.currency
where coalesce(items.line_count, 0) <> coalesce(again.line_count, 0) + coalesce(summary.line_count, 0)
    or coalesce(items.expected_fee_minor, 0) <> coalesce(again.expected_fee_minor, 0) + coalesce(summary.expected_fee_minor, 0)
    or coalesce(items.actual_fee_minor, 0) <> coalesce(again.actual_fee_minor, 0) + coalesce(summary.actual_fee_minor, 0)
    or coalesce(items.open_variance_minor, 0) <> coalesce(summary.open_variance_minor, 0)
