-- What each bank says was on its account at the end of the business date: the closing balance of the last statement, or of
-- a statement that is under way on that day (of a week, of a month) its opening balance and what it booked until then.
with

statements as (
    select * from {{ ref('stg_files__bank_statements') }} where is_standing
),

batches as (
    select batches.*
    from {{ source('ops', 'batches') }} as batches
    inner join {{ ref('stg_visible_batches') }} as visible on batches.batch_id = visible.batch_id
    where batches.source = 'files' and batches.table_name = 'bank_entries'
),

ranked as (
    select
        statements.*,
        closing_date > {{ business_date() }} as is_under_way,
        row_number() over (
            partition by bank_account, currency
            order by
                case when closing_date > {{ business_date() }} then opening_date else closing_date end desc,
                (closing_date > {{ business_date() }})::integer desc,
                sequence_number desc nulls last,
                first_file_id desc,
                first_statement_no desc
        ) as recency_rank
    from statements
    where (closing_minor is not null and closing_date <= {{ business_date() }})
        or (opening_minor is not null and opening_date <= {{ business_date() }} and closing_date > {{ business_date() }})
),

-- Batch by batch through the index, as `known_rows` does key by key.
booked as (
    select ranked.bank_account, ranked.currency, sum(entries.amount_minor)::bigint as booked_minor
    from ranked
    inner join batches on ranked.file_id = batches.file_id
    cross join lateral (
        select amount_minor
        from {{ source('files', 'bank_entries') }} as found
        where found.batch_id = batches.batch_id
            and found.statement_no = ranked.statement_no
            and found.booking_date <= {{ business_date() }}

        offset 0
    ) as entries
    where ranked.recency_rank = 1 and ranked.is_under_way
    group by ranked.bank_account, ranked.currency
),

final as (
    select
        ranked.bank_account,
        ranked.currency,
        case when ranked.is_under_way then ranked.opening_minor + coalesce(booked.booked_minor, 0) else ranked.closing_minor end as stated_minor
    from ranked
    left join booked on ranked.bank_account = booked.bank_account and ranked.currency = booked.currency
    where ranked.recency_rank = 1
)

select * from final
