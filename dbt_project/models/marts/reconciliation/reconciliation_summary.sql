with

items as (
    select * from {{ ref('reconciliation_items') }} where close_id = {{ close_id() }}
),

rates as (
    select * from {{ ref('int_reporting_rates') }} where rate_date = {{ business_date() }}
),

counted as (
    select
        reconciliation,
        side,
        status,
        coalesce(break_code, exclusion_reason, 'MATCHED') as outcome,
        currency,
        count(*) as item_count,
        sum(amount_minor)::bigint as amount_minor,
        sum(abs(amount_minor))::bigint as gross_amount_minor
    from items
    group by reconciliation, side, status, coalesce(break_code, exclusion_reason, 'MATCHED'), currency
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        counted.reconciliation,
        counted.side,
        counted.status,
        counted.outcome,
        counted.currency,
        counted.item_count,
        counted.amount_minor,
        counted.gross_amount_minor,
        {{ to_reporting_minor('counted.gross_amount_minor', 'rates.rate', 'rates.exponent', 'rates.reporting_exponent') }} as reporting_gross_amount_minor
    from counted
    left join rates on counted.currency = rates.currency
)

select * from final
