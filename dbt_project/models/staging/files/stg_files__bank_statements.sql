-- This close's statements, and of each account the last one that earlier closes knew up to the business date.
with

consumed as (
    {{ consumed_rows('files', 'bank_statements') }}
),

earlier as (
    select
        bank_statements.*,
        row_number() over (
            partition by bank_statements.bank_account, bank_statements.currency
            order by
                bank_statements.closing_date desc,
                bank_statements.sequence_number desc nulls last,
                bank_statements.file_id desc,
                bank_statements.statement_no desc
        ) as recency_rank
    from {{ source('files', 'bank_statements') }} as bank_statements
    inner join {{ ref('stg_visible_batches') }} as visible on bank_statements.batch_id = visible.batch_id
    where not visible.is_consumed_now
        and bank_statements.closing_minor is not null
        and bank_statements.closing_date <= {{ business_date() }}
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
