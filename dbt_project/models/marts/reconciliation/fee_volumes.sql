-- What was captured in each month, as far as this close is the one that learned of it: tiers are chosen by it.
with

items as (
    select * from {{ ref('int_items') }}
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        processor,
        coalesce(method_type, 'unknown') as method_type,
        coalesce(network, 'unknown') as network,
        coalesce(market, 'unknown') as market,
        currency,
        date_trunc('month', value_date)::date as capture_month,
        count(*) as item_count,
        sum(amount_minor)::bigint as captured_minor
    from items
    where reconciliation = 'payment_processor'
        and side = 'left'
        and item_type = 'capture'
        and is_entering
        and exclusion_reason is null
    group by
        processor, coalesce(method_type, 'unknown'), coalesce(network, 'unknown'), coalesce(market, 'unknown'), currency,
        date_trunc('month', value_date)
)

select * from final
