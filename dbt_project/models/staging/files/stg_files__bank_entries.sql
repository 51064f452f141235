with

consumed as (
    {{ consumed_rows('files', 'bank_entries') }}
),

files as (
    select * from {{ source('ops', 'files') }}
),

rules as (
    select * from {{ ref('bank_entry_rules') }}
),

described as (
    select
        consumed.*,
        left(files.sha256, 16) || ':' || consumed.line_no as entry_key,
        concat_ws(' ', consumed.counterparty, consumed.remittance, consumed.customer_reference, consumed.bank_reference) as description
    from consumed
    inner join files on consumed.file_id = files.file_id
),

-- The first rule that fits wins.
classified as (
    select
        described.*,
        rules.entry_class,
        rules.processor,
        substring(described.description from rules.reference_pattern) as payment_reference,
        row_number() over (partition by described.entry_key order by rules.rule_order nulls last) as rule_rank
    from described
    left join rules
        on described.description ~* rules.text_pattern
        and (
            rules.direction = 'any'
            or (rules.direction = 'debit' and described.amount_minor < 0)
            or (rules.direction = 'credit' and described.amount_minor >= 0)
        )
),

final as (
    select
        -- ids
        entry_key,
        bank_reference,
        customer_reference,
        payment_reference,

        -- numerics
        amount_minor,

        -- attributes
        bank_account,
        currency,
        coalesce(entry_class, 'unidentified') as entry_class,
        processor,
        is_reversal,
        description,

        -- dates
        booking_date,
        value_date,

        file_id,
        line_no,
        batch_id
    from classified
    where rule_rank = 1
)

select * from final
