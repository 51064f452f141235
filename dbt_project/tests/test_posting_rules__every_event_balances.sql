-- Money lost: an event type that can not balance, because a measure is debited and never credited, or nothing books it,
-- on any day since it was first booked.
with

rules as (
    select
        *,
        case
            when event_type in ('settlement_line', 'reserve', 'merchant_payout') and measure in ('net', 'fee', 'gross', 'converted') then 'settled'
            else measure
        end as balancing_measure
    from {{ ref('posting_rules') }}
),

changes as (
    select valid_from as changed_on from rules
    union
    select valid_to from rules where valid_to is not null
),

events as (
    select event_type, model, min(valid_from) as first_booked_on
    from rules
    group by event_type, model
),

legs as (
    select
        events.event_type,
        events.model,
        changes.changed_on,
        rules.balancing_measure,
        count(*) filter (where rules.side = 'debit') as debit_count,
        count(*) filter (where rules.side = 'credit') as credit_count
    from events
    inner join changes on changes.changed_on >= events.first_booked_on
    left join rules
        on events.event_type = rules.event_type
        and events.model = rules.model
        and {{ holds_on('rules', 'changes.changed_on') }}
    group by events.event_type, events.model, changes.changed_on, rules.balancing_measure
)

select *
from legs
where debit_count = 0 or credit_count = 0
