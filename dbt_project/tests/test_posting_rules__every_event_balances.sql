-- Money lost: an event type whose rules can not balance, because a measure is debited and never credited.
with

legs as (
    select
        event_type,
        model,
        case
            when event_type in ('settlement_line', 'reserve', 'merchant_payout') and measure in ('net', 'fee', 'gross', 'converted') then 'settled'
            else measure
        end as measure,
        count(*) filter (where side = 'debit') as debit_count,
        count(*) filter (where side = 'credit') as credit_count
    from {{ ref('posting_rules') }}
    group by 1, 2, 3
)

select *
from legs
where debit_count = 0 or credit_count = 0
