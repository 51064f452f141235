-- This close's statements, and of those that earlier closes knew: the first and the last of each account, and what
-- lies between the one before the oldest that comes now and today, and one that is under way. A handful of rows an account
-- and day.
{%- set position = 'closing_date, sequence_number nulls last, first_file_id, first_statement_no' %}

with

known as (
    select
        bank_statements.*,
        visible.is_consumed_now,
        row_number() over (
            partition by bank_statements.batch_id, bank_statements.row_key
            order by bank_statements.is_deleted, abs(bank_statements.statement_no)
        ) as occurrence
    from {{ source('files', 'bank_statements') }} as bank_statements
    inner join {{ ref('stg_visible_batches') }} as visible on bank_statements.batch_id = visible.batch_id
),

-- A statement sent again keeps the place of its first version among those of the same day.
versions as (
    select
        known.*,
        first_value(file_id) over same_statement as first_file_id,
        first_value(statement_no) over same_statement as first_statement_no,
        row_number() over (partition by row_key, occurrence order by batch_id desc) as recency_rank,
        row_number() over (partition by row_key, occurrence, is_consumed_now order by batch_id desc) as version_rank
    from known
    window same_statement as (partition by row_key, occurrence order by is_consumed_now, batch_id)
),

judged as (
    select
        versions.*,
        recency_rank = 1 and not is_deleted as is_standing,
        version_rank = 1 and not is_deleted and not is_consumed_now as stood_before,
        min(closing_date) filter (where is_consumed_now) over (partition by bank_account, currency) as consumed_from
    from versions
),

placed as (
    select
        judged.*,
        max(closing_date) filter (where stood_before and closing_date < consumed_from) over (
            partition by bank_account, currency
        ) as linked_from,
        row_number() over (partition by bank_account, currency, stood_before order by {{ position }}) as first_rank,
        row_number() over (partition by bank_account, currency, stood_before and is_standing order by {{ position }}) as first_left_rank,
        row_number() over (
            partition by bank_account, currency, stood_before and closing_minor is not null and closing_date <= {{ business_date() }}
            order by closing_date desc, sequence_number desc nulls last, first_file_id desc, first_statement_no desc
        ) as last_rank
    from judged
),

final as (
    select
        -- ids
        row_key,
        statement_reference,
        sequence_number,

        -- numerics
        opening_minor,
        closing_minor,

        -- attributes
        bank_account,
        currency,
        is_deleted,

        -- dates
        opening_date,
        closing_date,

        -- which of its versions counts, before this close and after it
        is_consumed_now,
        stood_before,
        is_standing,

        first_file_id,
        first_statement_no,
        file_id,
        statement_no,
        batch_id
    from placed
    where is_consumed_now
        or (stood_before and first_rank = 1)
        or (stood_before and is_standing and first_left_rank = 1)
        or (stood_before and closing_minor is not null and closing_date <= {{ business_date() }} and last_rank = 1)
        or (stood_before and closing_date >= coalesce(linked_from, consumed_from))
        or (stood_before and is_standing and opening_date <= {{ business_date() }} and closing_date > {{ business_date() }})
)

select * from final
