{%- set balance_columns = {'close_id': 'bigint', 'account': 'text', 'currency': 'text', 'balance_minor': 'bigint'} %}
{%- set movement_columns = dict(balance_columns, opening_minor='bigint', debit_minor='bigint', credit_minor='bigint') %}
{%- set deferred_columns = {
    'close_id': 'bigint', 'event_key': 'text', 'event_type': 'text', 'model': 'text', 'event_date': 'date',
    'gross_minor': 'bigint', 'fee_minor': 'bigint', 'net_minor': 'bigint', 'platform_fee_minor': 'bigint',
} %}

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

posting_rules as (
    select * from {{ ref('posting_rules') }}
),

bank_accounts as (
    select * from {{ ref('bank_accounts') }}
),

kinds as (
    select * from {{ ref('reconciliations') }}
),

open_items as (
    select * from {{ ref('reconciliation_items') }} where close_id = {{ close_id() }} and status = 'open'
),

statements as (
    select * from {{ ref('stg_files__bank_statements') }} where is_standing
),

events as (
    select * from {{ ref('int_events') }}
),

lines as (
    select * from {{ ref('stg_files__settlement_lines') }} where version_rank = 1
),

entries as (
    select * from {{ ref('stg_files__bank_entries') }} where version_rank = 1
),

invoice_lines as (
    select * from {{ ref('stg_files__invoice_lines') }} where version_rank = 1
),

payouts as (
    select * from {{ ref('stg_payments__payouts') }} where version_rank = 1
),

fx_conversions as (
    select * from {{ ref('stg_payments__fx_conversions') }} where version_rank = 1
),

ledger_entries as (
    select * from {{ ref('stg_payments__ledger_entries') }} where version_rank = 1
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
        case when status = 'returned' then 0 else amount_minor end as amount_minor
    from payouts
    union all
    select 'payouts.amount_minor', prior_currency, -prior_amount_minor
    from payouts
    where prior_status is not null and prior_status <> 'returned'
    union all
    select 'payouts.fee_minor', currency, fee_minor from payouts
    union all
    select 'payouts.fee_minor', prior_currency, -prior_fee_minor from payouts where prior_status is not null
    union all
    select 'fx_conversions.sell_amount_minor', sell_currency, sell_amount_minor from fx_conversions
    union all
    select 'fx_conversions.sell_amount_minor', prior_sell_currency, -prior_sell_amount_minor
    from fx_conversions
    where has_prior_version
    union all
    select 'fx_conversions.buy_amount_minor', buy_currency, buy_amount_minor from fx_conversions
    union all
    select 'fx_conversions.buy_amount_minor', prior_buy_currency, -prior_buy_amount_minor
    from fx_conversions
    where has_prior_version
    union all
    select 'disputes.lost', currency, amount_minor from disputes where stage = 'lost'
    union all
    select 'disputes.lost', prior_currency, -prior_amount_minor from disputes where stage = 'lost' and has_prior_version
    union all
    select 'settlement_lines.gross_minor', gross_currency, gross_minor - prior_gross_minor from lines
    union all
    select 'settlement_lines.fee_minor', net_currency, fee_minor - prior_fee_minor from lines
    union all
    select 'settlement_lines.net_minor', net_currency, net_minor - prior_net_minor from lines
    union all
    select 'bank_entries.amount_minor', currency, amount_minor - prior_amount_minor from entries
    union all
    select 'invoice_lines.amount_minor', currency, amount_minor - prior_amount_minor from invoice_lines
    union all
    select 'ledger_entries.amount_minor', ledger_entries.currency,
        ledger_entries.amount_minor - coalesce(ledger_entries.prior_amount_minor, 0)
    from ledger_entries
    inner join bank_accounts
        on ledger_entries.bank_account = bank_accounts.bank_account and bank_accounts.is_in_system_book
),

known_events as (
    select 'payouts.amount_minor' as subject, net_currency as currency, net_minor as amount_minor
    from events
    where event_type = 'merchant_payout'
    union all
    select 'payouts.fee_minor', net_currency, fee_minor from events where event_type = 'merchant_payout'
    union all
    select 'fx_conversions.sell_amount_minor', gross_currency, gross_minor from events where event_type = 'fx_sold'
    union all
    select 'fx_conversions.buy_amount_minor', gross_currency, gross_minor from events where event_type = 'fx_bought'
    union all
    select 'disputes.lost', gross_currency, gross_minor from events where event_type = 'chargeback_lost'
    union all
    select 'settlement_lines.gross_minor', gross_currency, gross_minor
    from events
    where event_type in ('settlement_line', 'processor_fee', 'invoice_deduction', 'reserve', 'processor_payout')
    union all
    select 'settlement_lines.fee_minor', net_currency, fee_minor
    from events
    where event_type in ('settlement_line', 'processor_fee', 'invoice_deduction', 'reserve', 'processor_payout')
    union all
    select 'settlement_lines.net_minor', net_currency, net_minor
    from events
    where event_type in ('settlement_line', 'processor_fee', 'invoice_deduction', 'reserve', 'processor_payout')
    union all
    select 'bank_entries.amount_minor', net_currency, net_minor
    from events
    where event_type like 'bank\_%' and event_type <> 'bank_opening'
    union all
    select 'invoice_lines.amount_minor', net_currency, net_minor from events where event_type = 'processor_invoice'
    union all
    select 'ledger_entries.amount_minor', net_currency, net_minor from events where event_type = 'book_movement'
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

-- Every event that is due is an entry, every other one waits, and none that waited was forgotten.
waiting_before as (
    select event_key, event_type, model, event_date, gross_minor, fee_minor, net_minor, platform_fee_minor
    from {{ earlier_rows('books', 'deferred_events', deferred_columns) }} as earlier
    where close_id = {{ parent_close_id() }}
),

arriving as (
    select event_key, event_type, model, event_date, gross_minor, fee_minor, net_minor, platform_fee_minor from events
    union all
    select * from waiting_before
),

-- A fee's line, restated to the same net, says something else and moves nothing: its rules post the net alone. An event
-- without any rule leaves the journal a null, which its contract refuses.
moving as (
    select *
    from arriving
    where exists (
        select
        from posting_rules
        where posting_rules.event_type = arriving.event_type
            and posting_rules.model in (arriving.model, 'any')
            and {{ holds_on('posting_rules', 'arriving.event_date') }}
            and case posting_rules.measure
                when 'gross' then gross_minor
                when 'net' then net_minor
                when 'fee' then fee_minor
                when 'converted' then net_minor + fee_minor
                when 'platform_fee' then platform_fee_minor
            end <> 0
    )
),

due_counts as (
    select event_type, count(*) as event_count from moving where event_date <= {{ business_date() }} group by event_type
),

entry_counts as (
    select event_type, count(distinct entry_key) as entry_count from journal_proposed group by event_type
),

events_to_journal as (
    select
        {{ proof_line(
            'events_to_journal', 'coalesce(due_counts.event_type, entry_counts.event_type)', "'XXX'",
            'due_counts.event_count', 'entry_counts.entry_count', '0', '0'
        ) }}
    from due_counts
    full outer join entry_counts on due_counts.event_type = entry_counts.event_type
),

waiting_totals as (
    select count(*) as event_count, coalesce(sum(gross_minor + fee_minor + net_minor), 0) as amount_minor
    from arriving
    where event_date > {{ business_date() }}
),

deferred_totals as (
    select count(*) as event_count, coalesce(sum(gross_minor + fee_minor + net_minor), 0) as amount_minor
    from {{ ref('deferred_events') }}
    where close_id = {{ close_id() }}
),

events_that_wait as (
    select
        {{ proof_line(
            'events_that_wait', "'deferred events'", "'XXX'",
            'waiting_totals.event_count', 'deferred_totals.event_count', 'waiting_totals.amount_minor', 'deferred_totals.amount_minor'
        ) }}
    from waiting_totals
    cross join deferred_totals
),

-- What the parent close says it moved is what was booked for its date: by itself and, where the date was closed again,
-- by the generations before it. A parent that waits for its chain's publication books what it proposes.
parent as (
    select * from {{ source('ops', 'closes') }} where close_id = {{ parent_close_id() }}
),

parent_postings as (
    select journal.account, journal.currency, journal.amount_minor
    from parent
    inner join {{ source('ops', 'closes') }} as generations
        on parent.book = generations.book and parent.business_date = generations.business_date
    inner join {{ source('ledger', 'journal') }} as journal on generations.close_id = journal.close_id
    where parent.state = 'published'
    union all
    select proposed.account, proposed.currency, proposed.amount_minor
    from parent
    inner join {{ ref('journal_proposed') }} as proposed on parent.close_id = proposed.close_id
    where parent.state <> 'published'
),

booked as (
    select account, currency, sum(amount_minor) as moved_minor
    from parent_postings
    group by account, currency
),

claimed as (
    select account, currency, balance_minor - opening_minor as moved_minor, opening_minor + debit_minor - credit_minor - balance_minor as gap_minor
    from {{ earlier_rows('books', 'trial_balance', movement_columns) }} as earlier
    where close_id = {{ parent_close_id() }}
),

journal_to_balances as (
    select
        {{ proof_line(
            'journal_to_balances', 'coalesce(booked.account, claimed.account)', 'coalesce(booked.currency, claimed.currency)',
            '0', 'case when claimed.gap_minor <> 0 then 1 else 0 end', 'booked.moved_minor', 'claimed.moved_minor'
        ) }}
    from booked
    full outer join claimed on booked.account = claimed.account and booked.currency = claimed.currency
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
    select open_items.clearing_account as account, open_items.currency, sum(open_items.clearing_minor) as clearing_minor
    from open_items
    inner join kinds on open_items.reconciliation = kinds.reconciliation
    where kinds.clears
    group by open_items.clearing_account, open_items.currency
),

-- Some clear against another account: the payment system's book of a bank account, against the bank account itself.
to_clear as (
    select trial_balance.account, trial_balance.currency, trial_balance.balance_minor
    from trial_balance
    inner join chart on trial_balance.account_type = chart.account_type
    -- Books of before the account had a reconciliation hold its type alone.
    where chart.reconciliation is not null and trial_balance.account <> trial_balance.account_type
    union all
    select chart.account_type || ':' || bank_accounts.bank_account, trial_balance.currency, -trial_balance.balance_minor
    from trial_balance
    inner join chart on trial_balance.account_type = chart.compared_with
    inner join bank_accounts
        on trial_balance.account = chart.compared_with || ':' || bank_accounts.bank_account
        and bank_accounts.is_in_system_book
),

clearing_balances as (
    select account, currency, sum(balance_minor) as balance_minor from to_clear group by account, currency
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
stated_balances as (
    select * from {{ ref('int_stated_balances') }}
),

bank_balances as (
    select * from trial_balance where account_type = 'bank'
),

bank as (
    select
        {{ proof_line(
            'bank_balance', 'stated_balances.bank_account', 'stated_balances.currency',
            '0', '0', 'stated_balances.stated_minor', 'bank_balances.balance_minor'
        ) }}
    from stated_balances
    left join bank_balances
        on bank_balances.account = 'bank:' || stated_balances.bank_account
        and bank_balances.currency = stated_balances.currency
),

-- 11. Each statement opens where the one before it closed; superseded ones count for nothing.
linked_statements as (
    select
        bank_account,
        currency,
        opening_minor,
        is_consumed_now,
        lag(closing_minor) over in_order as previous_closing_minor,
        lag(is_consumed_now) over in_order as is_previous_consumed_now,
        coalesce(statement_reference, closing_date::text) as statement_name
    from statements
    where closing_minor is not null
    window in_order as (
        partition by bank_account, currency order by closing_date, sequence_number nulls last, first_file_id, first_statement_no
    )
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
    where (is_consumed_now or is_previous_consumed_now) and previous_closing_minor is not null
    group by bank_account, currency
),

final as (
    select * from staging_to_events
    union all
    select * from events_to_journal
    union all
    select * from events_that_wait
    union all
    select * from journal_to_balances
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
