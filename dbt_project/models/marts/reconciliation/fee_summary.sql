-- Fees against contracts in total. A line counts in the close that compared it first; what stands open is shown by every one.
{%- set earlier_columns = {'close_id': 'bigint', 'item_key': 'text', 'expected_fee_minor': 'bigint'} %}

with

items as (
    select * from {{ ref('reconciliation_items') }} where close_id = {{ close_id() }}
),

earlier_items as (
    select * from {{ earlier_rows('closes', 'reconciliation_items', earlier_columns) }} as earlier
),

-- A carried line was compared before, unless the parent close had it without a fee to compare: one without any row there
-- comes out of a match that was taken apart.
compared as (
    select
        items.*,
        items.fee_minor - items.expected_fee_minor as variance_minor,
        not items.is_carried or (earlier_items.item_key is not null and earlier_items.expected_fee_minor is null) as is_first,
        coalesce(items.break_code = 'FEE_VARIANCE', false) as is_beyond
    from items
    left join earlier_items
        on items.is_carried and earlier_items.close_id = {{ parent_close_id() }} and items.item_key = earlier_items.item_key
    where items.side = 'right' and items.expected_fee_minor is not null
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        processor,
        fee_schedule_id,
        fee_currency as currency,
        count(*) filter (where is_first) as line_count,
        coalesce(sum(abs(amount_minor)) filter (where is_first), 0)::bigint as charged_on_minor,
        coalesce(sum(expected_fee_minor) filter (where is_first), 0)::bigint as expected_fee_minor,
        coalesce(sum(fee_minor) filter (where is_first), 0)::bigint as actual_fee_minor,
        coalesce(sum(variance_minor) filter (where is_first), 0)::bigint as variance_minor,
        count(*) filter (where is_first and is_beyond) as beyond_tolerance_count,
        coalesce(sum(variance_minor) filter (where is_first and is_beyond), 0)::bigint as beyond_tolerance_minor,
        count(*) filter (where is_beyond) as open_count,
        coalesce(sum(variance_minor) filter (where is_beyond), 0)::bigint as open_variance_minor
    from compared
    where is_first or is_beyond
    group by processor, fee_schedule_id, fee_currency
)

select * from final
