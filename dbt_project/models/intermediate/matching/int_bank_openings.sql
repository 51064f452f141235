-- The balance an account had when the books first saw it. A first statement that is sent again with another one, or one
-- that lies before it, moves it by the difference.
with

statements as (
    select * from {{ ref('stg_files__bank_statements') }}
),

ranked as (
    select
        statements.*,
        row_number() over (
            partition by bank_account, currency, is_standing
            order by closing_date, sequence_number nulls last, first_file_id, first_statement_no
        ) as standing_rank,
        row_number() over (
            partition by bank_account, currency, stood_before
            order by closing_date, sequence_number nulls last, first_file_id, first_statement_no
        ) as stood_rank
    from statements
),

compared as (
    select
        first_now.bank_account,
        first_now.currency,
        coalesce(first_now.opening_date, first_now.closing_date) as opening_date,
        first_before.bank_account is not null as was_open,
        (coalesce(first_now.opening_minor, 0) - coalesce(first_before.opening_minor, 0))::bigint as opening_minor,
        first_now.batch_id,
        first_now.file_id
    from ranked as first_now
    left join ranked as first_before
        on first_now.bank_account = first_before.bank_account
        and first_now.currency = first_before.currency
        and first_before.stood_before
        and first_before.stood_rank = 1
    where first_now.is_standing
        and first_now.standing_rank = 1
        and (first_now.opening_minor is not null or first_before.opening_minor is not null)
),

final as (
    select bank_account, currency, opening_date, was_open, opening_minor, batch_id, file_id
    from compared
    where not was_open or opening_minor <> 0
)

select * from final
