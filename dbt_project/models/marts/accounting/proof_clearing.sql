{%- set balance_columns = {'close_id': 'bigint', 'account': 'text', 'currency': 'text', 'balance_minor': 'bigint'} %}

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

events as (
    select * from {{ ref('int_events') }}
),

lines as (
    select * from {{ ref('stg_files__settlement_lines') }}
),

entries as (
    select * from {{ ref('stg_files__bank_entries') }}
),

payouts as (
    select * from {{ ref('stg_payments__payouts') }} where version_rank = 1
),

fx_conversions as (
    select * from {{ ref('stg_payments__fx_conversions') }} where version_rank = 1
),

disputes as (
    select * from {{ ref('stg_payments__disputes') }} where version_rank = 1
),

parent_balances as (
    select account, currency, balance_minor
    from {{ earlier_rows('books', 'trial_balance', balance_columns) }} as earlier
    where close_id = {{ parent_close_id() }}
),

-- 6. Every event the books know is one that was staged, also where no reconciliation looks: what a later version
-- adds to the standing of payouts, conversions and lost disputes; and lines and entries measure by measure.
staged_events as (
    select 'payouts.amount_minor' as subject, currency,
        case when status = 'returned' then 0 else amount_minor end
        - case when prior_status is null or prior_status = 'returned' then 0 else prior_amount_minor end as amount_minor
    from payouts
    union all
    select 'fx_conversions.sell_amount_minor', sell_currency, sell_amount_minor from fx_conversions where not has_prior_version
    union all
    select 'fx_conversions.buy_amount_minor', buy_currency, buy_amount_minor from fx_conversions where not has_prior_version
    union all
    select 'disputes.lost', currency, amount_minor from disputes where stage = 'lost'
    union all
    select 'disputes.lost', prior_currency, -prior_amount_minor from disputes where stage = 'lost' and has_prior_version
    union all
    select 'settlement_lines.gross_minor', gross_currency, gross_minor from lines
    union all
    select 'settlement_lines.fee_minor', net_currency, fee_minor from lines
    union all
    select 'settlement_lines.net_minor', net_currency, net_minor from lines
    union all
    select 'bank_entries.amount_minor', currency, amount_minor from entries
),

known_events as (
    select 'payouts.amount_minor' as subject, net_currency as currency,
        case event_type when 'payout_sent' then net_minor else -net_minor end as amount_minor
    from events
    where event_type in ('payout_sent', 'payout_returned')
    union all
    select 'fx_conversions.sell_amount_minor', gross_currency, gross_minor from events where event_type = 'fx_sold'
    union all
    select 'fx_conversions.buy_amount_minor', gross_currency, gross_minor from events where event_type = 'fx_bought'
    union all
    select 'disputes.lost', gross_currency, gross_minor from events where event_type = 'chargeback_lost'
    union all
    select 'settlement_lines.gross_minor', gross_currency, gross_minor
    from events
    where event_type in ('settlement_line', 'processor_fee', 'reserve', 'processor_payout')
    union all
    select 'settlement_lines.fee_minor', net_currency, fee_minor
    from events
    where event_type in ('settlement_line', 'processor_fee', 'reserve', 'processor_payout')
    union all
    select 'settlement_lines.net_minor', net_currency, net_minor
    from events
    where event_type in ('settlement_line', 'processor_fee', 'reserve', 'processor_payout')
    union all
    select 'bank_entries.amount_minor', net_currency, net_minor
    from events
    where event_type like 'bank\_%' and event_type <> 'bank_opening'
),

event_totals as (
    select subject, currency, amount_minor as staged_minor, 0::bigint as known_minor from staged_events
    union all
    select subject, currency, 0, amount_minor from known_events
),

staging_to_events as (
    select
        {{ proof_line('staging_to_events', 'subject', 'currency', '0', '0', 'sum(staged_minor)', 'sum(known_minor)') }}
    from event_totals
    group by subject, currency
),

-- 7. Every account moves by what is posted to it, and by nothing else.
postings as (
    select account, currency, balance_minor as amount_minor from parent_balances
    union all
    select account, currency, amount_minor from journal_proposed
),

posted_accounts as (
    select account, currency, sum(amount_minor) as balance_minor from postings group by account, currency
),

rolled_forward as (
    select
        {{ proof_line(
            'rolled_forward', 'coalesce(posted_accounts.account, trial_balance.account)',
            'coalesce(posted_accounts.currency, trial_balance.currency)',
            '(posted_accounts.account is not null)::integer', '(trial_balance.account is not null)::integer',
            'posted_accounts.balance_minor', 'trial_balance.balance_minor'
        ) }}
    from posted_accounts
    full outer join trial_balance
        on posted_accounts.account = trial_balance.account and posted_accounts.currency = trial_balance.currency
),

-- 8. A clearing account is zero or the sum of its open breaks.
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

-- 9. Debits equal credits, entry by entry and in total.
entry_balances as (
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
    from entry_balances
    group by currency
),

balanced_books as (
    select
        {{ proof_line('balanced_books', "'trial balance'", 'currency', '0', '0', '0', 'sum(balance_minor)') }}
    from trial_balance
    group by currency
),

-- 10. Our bank account is what the bank says it is.
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

-- 11. Each statement opens where the one before it closed.
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
    select * from staging_to_events
    union all
    select * from rolled_forward
    union all
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
