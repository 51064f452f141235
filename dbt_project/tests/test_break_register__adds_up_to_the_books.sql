-- Money lost: a clearing account that is off by more than the register shows. Balance = open breaks + exceptions.
with

balances as (
    select subject as account, currency, actual_minor, expected_minor
    from {{ ref('proof_clearing') }}
    where close_id = {{ close_id() }} and check_name = 'clearing'
),

exceptions as (
    select subject as account, currency
    from {{ ref('proof_exceptions') }}
    where close_id = {{ close_id() }} and check_name = 'clearing'
),

registered as (
    select register.clearing_account as account, register.currency, sum(register.clearing_minor) as clearing_minor
    from {{ ref('break_register') }} as register
    left join {{ ref('reconciliations') }} as kinds on register.reconciliation = kinds.reconciliation
    where register.close_id = {{ close_id() }}
        and (kinds.clears or register.reconciliation = 'proof')
    group by register.clearing_account, register.currency
)

select *
from balances
left join exceptions on balances.account = exceptions.account and balances.currency = exceptions.currency
left join registered on balances.account = registered.account and balances.currency = registered.currency
where balances.actual_minor <> coalesce(registered.clearing_minor, 0)
    -- A line that fails and is not excused is the proof's to name.
    and (exceptions.account is not null or balances.actual_minor = balances.expected_minor)
