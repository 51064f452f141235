with

events as (
    select * from {{ ref('int_events') }}
),

posting_rules as (
    select * from {{ ref('posting_rules') }}
),

deferred as (
    select * from {{ ref('int_deferred_events') }}
),

due as (
    select * from events where event_date <= {{ business_date() }}
    union all
    select * from deferred where event_date <= {{ business_date() }}
),

legs as (
    select
        due.event_key as entry_key,
        posting_rules.leg_no,
        due.event_type,
        due.value_date,
        posting_rules.account_type
        || case posting_rules.account_detail
            when 'processor' then ':' || due.processor
            when 'bank_account' then ':' || due.bank_account
            else ''
        end as account,
        case when posting_rules.measure in ('net', 'fee', 'converted') then due.net_currency else due.gross_currency end as currency,
        case posting_rules.side when 'debit' then 1 else -1 end
        * case posting_rules.measure
            when 'gross' then due.gross_minor
            when 'net' then due.net_minor
            when 'fee' then due.fee_minor
            when 'converted' then due.net_minor + due.fee_minor
            when 'platform_fee' then due.platform_fee_minor
        end as amount_minor
    from due
    left join posting_rules
        on due.event_type = posting_rules.event_type
        and posting_rules.model in (due.model, 'any')
        and {{ holds_on('posting_rules', 'due.event_date') }}
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        entry_key,
        leg_no,
        event_type,
        value_date,
        account,
        currency,
        amount_minor
    from legs
    -- A measure of zero is no leg; an event without any rule stays as a null and breaks the contract.
    where amount_minor is distinct from 0
)

select * from final
