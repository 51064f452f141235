with

trial_balance as (
    select * from {{ ref('trial_balance') }} where close_id = {{ close_id() }}
),

journal_proposed as (
    select * from {{ ref('journal_proposed') }} where close_id = {{ close_id() }}
),

chart as (
    select * from {{ ref('chart_of_accounts') }}
),

open_items as (
    select * from {{ ref('reconciliation_items') }} where close_id = {{ close_id() }} and status = 'open'
),

statements as (
    select * from {{ ref('stg_files__bank_statements') }}
),

-- 6. A clearing account is zero or the sum of its open breaks.
breaks as (
    select clearing_account as account, currency, sum(clearing_minor) as clearing_minor
    from open_items
    group by clearing_account, currency
),

clearing_balances as (
    select trial_balance.account, trial_balance.currency, trial_balance.balance_minor
    from trial_balance
    inner join chart on trial_balance.account_type = chart.account_type
    where chart.reconciliation is not null
),

clearing as (
    select
        {{ proof_line(
            'clearing', 'coalesce(breaks.account, clearing_balances.account)', 'coalesce(breaks.currency, clearing_balances.currency)',
            '0', '0', 'breaks.clearing_minor', 'clearing_balances.balance_minor'
        ) }}
    from breaks
    full outer join clearing_balances
        on breaks.account = clearing_balances.account and breaks.currency = clearing_balances.currency
),

-- 7. Debits equal credits, entry by entry and in total.
entries as (
    select entry_key, currency, sum(amount_minor) as difference_minor
    from journal_proposed
    group by entry_key, currency
),

balanced_entries as (
    select
        {{ proof_line(
            'balanced_entries', "'journal'", 'currency',
            '0', 'count(*) filter (where difference_minor <> 0)', '0', 'sum(abs(difference_minor))',
            "left(string_agg(entry_key, ', ' order by entry_key) filter (where difference_minor <> 0), 500)"
        ) }}
    from entries
    group by currency
),

balanced_books as (
    select
        {{ proof_line('balanced_books', "'trial balance'", 'currency', '0', '0', '0', 'sum(balance_minor)') }}
    from trial_balance
    group by currency
),

-- 8. Our bank account is what the bank says it is.
latest_statements as (
    select
        bank_account,
        currency,
        closing_minor,
        row_number() over (
            partition by bank_account order by closing_date desc, sequence_number desc nulls last, statement_no desc
        ) as recency_rank
    from statements
    where closing_minor is not null
),

bank_balances as (
    select * from trial_balance where account_type = 'bank'
),

bank as (
    select
        {{ proof_line(
            'bank_balance', 'latest_statements.bank_account', 'latest_statements.currency',
            '0', '0', 'latest_statements.closing_minor', 'bank_balances.balance_minor'
        ) }}
    from latest_statements
    left join bank_balances
        on bank_balances.account = 'bank:' || latest_statements.bank_account
        and bank_balances.currency = latest_statements.currency
    where latest_statements.recency_rank = 1
),

-- 9. Each statement opens where the one before it closed.
linked_statements as (
    select
        bank_account,
        currency,
        opening_minor,
        is_consumed_now,
        lag(closing_minor) over (
            partition by bank_account order by closing_date, sequence_number nulls last, statement_no
        ) as previous_closing_minor,
        coalesce(statement_reference, closing_date::text) as statement_name
    from statements
),

continuity as (
    select
        {{ proof_line(
            'bank_continuity', 'bank_account', 'currency',
            '0', 'count(*) filter (where opening_minor <> previous_closing_minor)',
            '0', 'sum(abs(opening_minor - previous_closing_minor))',
            "string_agg(statement_name, ', ' order by statement_name) filter (where opening_minor <> previous_closing_minor)"
        ) }}
    from linked_statements
    where is_consumed_now and previous_closing_minor is not null
    group by bank_account, currency
),

final as (
    select * from clearing
    union all
    select * from balanced_entries
    union all
    select * from balanced_books
    union all
    select * from bank
    union all
    select * from continuity
)

select * from final
