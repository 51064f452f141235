{%- set columns = [
    'file_id', 'line_no', 'bank_account', 'booking_date', 'value_date', 'amount_minor', 'currency', 'is_reversal',
    'bank_reference', 'customer_reference', 'counterparty', 'remittance',
] %}

with

consumed as (
    {{ consumed_line_versions('bank_entries', columns, ['amount_minor']) }}
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

-- The first rule that fits wins. An entry that is gone was what its amount made it.
classified as (
    select
        described.*,
        rules.entry_class,
        rules.processor,
        -- One entry may pay several payouts at once and name them all.
        (
            select string_agg(distinct {{ normalised_reference('found[1]') }}, '+')
            from regexp_matches(described.description, rules.reference_pattern, 'g') as found
        ) as payment_reference,
        row_number() over (
            partition by described.batch_id, described.row_key, described.occurrence order by rules.rule_order nulls last
        ) as rule_rank
    from described
    left join rules
        on described.description ~* rules.text_pattern
        and {{ holds_on('rules', 'described.booking_date') }}
        and (
            rules.direction = 'any'
            or rules.direction = case
                when described.is_deleted and described.prior_amount_minor < 0 then 'debit'
                when described.amount_minor < 0 then 'debit'
                else 'credit'
            end
        )
),

final as (
    select
        -- ids
        entry_key,
        row_key,
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
        is_deleted,

        -- dates
        booking_date,
        value_date,

        -- what stood before this close
        prior_amount_minor,
        has_prior_version,
        has_stood,
        version_rank,
        version_no,
        occurrence,
        version_reason,

        file_id,
        line_no,
        batch_id
    from classified
    where rule_rank = 1
)

select * from final
