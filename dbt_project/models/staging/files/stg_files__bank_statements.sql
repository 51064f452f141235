-- This close's statements, and for each account the last one before them.
with

consumed as (
    {{ consumed_rows('files', 'bank_statements') }}
),

wanted as (
    select distinct bank_account from consumed
),

earlier as (
    select
        bank_statements.*,
        row_number() over (
            partition by bank_statements.bank_account
            order by bank_statements.closing_date desc, bank_statements.sequence_number desc nulls last
        ) as recency_rank
    from {{ source('files', 'bank_statements') }} as bank_statements
    inner join wanted on bank_statements.bank_account = wanted.bank_account
    inner join {{ ref('stg_visible_batches') }} as visible on bank_statements.batch_id = visible.batch_id
    where not visible.is_consumed_now and bank_statements.closing_minor is not null
),

final as (
    select bank_account, currency, statement_reference, sequence_number, opening_date, opening_minor,
        closing_date, closing_minor, true as is_consumed_now, file_id, statement_no, batch_id
    from consumed
    union all
    select bank_account, currency, statement_reference, sequence_number, opening_date, opening_minor,
        closing_date, closing_minor, false, file_id, statement_no, batch_id
    from earlier
    where recency_rank = 1
)

select * from final
