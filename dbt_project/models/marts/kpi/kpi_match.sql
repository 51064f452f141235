with

summary as (
    select * from {{ ref('reconciliation_summary') }} where close_id = {{ close_id() }}
),

codes as (
    select * from {{ ref('break_codes') }}
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        summary.reconciliation,
        summary.side,
        summary.currency,
        coalesce(sum(summary.item_count) filter (where summary.status = 'matched'), 0)::bigint as matched_count,
        coalesce(sum(summary.gross_amount_minor) filter (where summary.status = 'matched'), 0)::bigint as matched_minor,
        {{ sum_or_null('summary.reporting_gross_amount_minor', "summary.status = 'matched'") }}::bigint as matched_reporting_minor,
        coalesce(sum(summary.item_count) filter (where summary.status = 'matched' or not codes.is_timing), 0)::bigint as due_count,
        coalesce(sum(summary.gross_amount_minor) filter (where summary.status = 'matched' or not codes.is_timing), 0)::bigint as due_minor,
        {{ sum_or_null('summary.reporting_gross_amount_minor', "summary.status = 'matched' or not codes.is_timing") }}::bigint as due_reporting_minor
    from summary
    left join codes on summary.outcome = codes.break_code
    where summary.status in ('matched', 'open')
    group by summary.reconciliation, summary.side, summary.currency
)

select * from final
