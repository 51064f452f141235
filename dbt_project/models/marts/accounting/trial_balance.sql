{%- set columns = {'close_id': 'bigint', 'account': 'text', 'currency': 'text', 'balance_minor': 'bigint'} %}

with

journal_proposed as (
    select * from {{ ref('journal_proposed') }} where close_id = {{ close_id() }}
),

chart as (
    select * from {{ ref('chart_of_accounts') }}
),

parent_balances as (
    select account, currency, balance_minor
    from {{ earlier_rows('books', 'trial_balance', columns) }} as earlier
    where close_id = {{ parent_close_id() }}
),

movements as (
    select
        account,
        currency,
        coalesce(sum(amount_minor) filter (where amount_minor > 0), 0)::bigint as debit_minor,
        coalesce(-sum(amount_minor) filter (where amount_minor < 0), 0)::bigint as credit_minor
    from journal_proposed
    group by account, currency
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        coalesce(movements.account, parent_balances.account) as account,
        coalesce(movements.currency, parent_balances.currency) as currency,
        split_part(coalesce(movements.account, parent_balances.account), ':', 1) as account_type,
        chart.account_class,
        coalesce(parent_balances.balance_minor, 0) as opening_minor,
        coalesce(movements.debit_minor, 0) as debit_minor,
        coalesce(movements.credit_minor, 0) as credit_minor,
        coalesce(parent_balances.balance_minor, 0) + coalesce(movements.debit_minor, 0) - coalesce(movements.credit_minor, 0) as balance_minor
    from movements
    full outer join parent_balances
        on movements.account = parent_balances.account and movements.currency = parent_balances.currency
    left join chart
        on split_part(coalesce(movements.account, parent_balances.account), ':', 1) = chart.account_type
)

select * from final
