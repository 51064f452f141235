-- Memo accounts that nobody compares any more: what the payment system's book had come to, and what still comes due of it,
-- is booked out.
{%- set columns = {'close_id': 'bigint', 'account': 'text', 'account_type': 'text', 'currency': 'text', 'balance_minor': 'bigint'} %}

with

bank_accounts as (
    select * from {{ ref('bank_accounts') }} where is_in_system_book
),

held as (
    select split_part(account, ':', 2) as bank_account, currency, balance_minor
    from {{ earlier_rows('books', 'trial_balance', columns) }} as earlier
    where close_id = {{ parent_close_id() }} and account_type = 'system_book'
    union all
    select bank_account, net_currency, net_minor
    from {{ ref('int_deferred_events') }}
    where event_type = 'book_movement' and event_date <= {{ business_date() }}
),

final as (
    select held.bank_account, held.currency, sum(held.balance_minor)::bigint as book_minor
    from held
    where not exists (select from bank_accounts where bank_accounts.bank_account = held.bank_account)
    group by held.bank_account, held.currency
    having sum(held.balance_minor) <> 0
)

select * from final
