-- Accounts whose comparison with the payment system's book begins with this close, though both were known before: the
-- book came later than the bank's statements, or `is_in_system_book` was set later, or again: an account that was booked
-- out holds nothing and has no open item, though the bank does. Both sides open at what they are.
{%- set balance_columns = {'close_id': 'bigint', 'account': 'text', 'currency': 'text', 'balance_minor': 'bigint'} %}
{%- set item_columns = {'close_id': 'bigint', 'status': 'text', 'clearing_account': 'text', 'currency': 'text'} %}

with

bank_accounts as (
    select * from {{ ref('bank_accounts') }} where is_in_system_book
),

balances as (
    select * from {{ earlier_rows('books', 'trial_balance', balance_columns) }} as earlier where close_id = {{ parent_close_id() }}
),

open_items as (
    select * from {{ earlier_rows('closes', 'reconciliation_items', item_columns) }} as earlier
    where close_id = {{ parent_close_id() }} and status = 'open'
),

visible as (
    select * from {{ ref('stg_visible_batches') }}
),

unopened as (
    select
        bank_accounts.bank_account,
        bank_balances.currency,
        bank_balances.balance_minor as bank_minor,
        book_balances.account is not null as was_open
    from bank_accounts
    inner join balances as bank_balances on bank_balances.account = 'bank:' || bank_accounts.bank_account
    left join balances as book_balances
        on book_balances.account = 'system_book:' || bank_accounts.bank_account
        and book_balances.currency = bank_balances.currency
    where (book_balances.account is null or (book_balances.balance_minor = 0 and bank_balances.balance_minor <> 0))
        and not exists (
            select
            from open_items
            where open_items.clearing_account = 'system_book:' || bank_accounts.bank_account
                and open_items.currency = bank_balances.currency
        )
),

-- Read once when a comparison begins, so it may read all there is.
ledger_entries as (
    select
        raw_entries.bank_account,
        raw_entries.currency,
        raw_entries.amount_minor,
        row_number() over (partition by raw_entries.ledger_entry_id order by raw_entries.batch_id desc) as version_rank
    from {{ source('payments', 'ledger_entries') }} as raw_entries
    inner join visible on raw_entries.batch_id = visible.batch_id and not visible.is_consumed_now
    inner join unopened
        on raw_entries.bank_account = unopened.bank_account and raw_entries.currency = unopened.currency
),

booked as (
    select bank_account, currency, sum(amount_minor)::bigint as book_minor
    from ledger_entries
    where version_rank = 1
    group by bank_account, currency
),

final as (
    select
        unopened.bank_account,
        unopened.currency,
        coalesce(booked.book_minor, 0) as book_minor,
        unopened.bank_minor,
        unopened.was_open,
        (select max(batch_id) from visible) as batch_id
    from unopened
    left join booked on unopened.bank_account = booked.bank_account and unopened.currency = booked.currency
    where coalesce(booked.book_minor, 0) <> 0 or unopened.bank_minor <> 0
)

select * from final
