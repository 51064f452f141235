-- Both sides of contract_invoice: the fees of a month that contracts say are invoiced, a report's lines at a time, and the
-- lines of the invoices. A fee costs us, so both are negative.
{%- set lag = term('processors', 'invoice_lag_business_days') %}
{%- set grace = term('processors', 'grace_business_days') %}

with

fees as (
    select * from {{ ref('int_invoiced_fees') }}
),

lines as (
    select * from {{ ref('stg_files__invoice_lines') }}
),

expected as (
    select
        'contract_fee:' || min(fees.line_key) || ':' || fees.fee_type || ':' || to_char(fees.service_month, 'YYYY-MM') as item_key,
        fees.processor,
        fees.processor_account,
        fees.fee_type,
        fees.currency,
        fees.service_month,
        (fees.service_month + interval '1 month' - interval '1 day')::date as month_end,
        sum(fees.fee_minor)::bigint as fee_minor,
        fees.batch_id,
        fees.file_id
    from fees
    group by
        fees.processor, fees.processor_account, fees.fee_type, fees.currency, fees.service_month, fees.batch_id, fees.file_id
    having sum(fees.fee_minor) <> 0
),

final as (
    select {{ as_item({
        'item_key': 'expected.item_key',
        'reconciliation': "'contract_invoice'",
        'side': "'left'",
        'item_type': "'contract_fee'",
        'source_reference': "
            expected.processor || ':' || expected.processor_account || ':' || expected.fee_type || ':' || expected.currency
            || ':' || to_char(expected.service_month, 'YYYY-MM')",
        'source_name': "'files'",
        'source_table': "'settlement_lines'",
        'amount_minor': '-expected.fee_minor',
        'currency': 'expected.currency',
        'clearing_account': "'payables:' || expected.processor",
        'processor': 'expected.processor',
        'processor_account': 'expected.processor_account',
        'strong_key': invoice_key('expected'),
        'value_date': business_date(),
        'expected_date': 'coalesce(expected_day.calendar_date, expected.month_end + ' ~ lag ~ ')',
        'due_date': 'coalesce(due_day.calendar_date, expected.month_end + ' ~ lag ~ ' + ' ~ grace ~ ')',
        'batch_id': 'expected.batch_id',
        'file_id': 'expected.file_id',
    }) }}
    from expected
    {{ join_terms('processors', 'processor', 'expected.processor', 'expected.month_end') }}
    {{ join_business_day('start_day', 'expected_day', 'expected.currency', 'expected.month_end', lag) }}
    {{ join_business_day('grace_day', 'due_day', 'expected.currency', 'expected_day.calendar_date', grace) }}
    union all
    select {{ as_item({
        'item_key': "'invoice:' || line_key || " ~ version_suffix('version_no'),
        'reconciliation': "'contract_invoice'",
        'side': "'right'",
        'item_type': "'invoice_line'",
        'source_reference': "processor || ':' || processor_account || ':' || invoice_number || ':' || line_no",
        'source_name': "'files'",
        'source_table': "'invoice_lines'",
        'control_measure': "'amount_minor'",
        'control_count': '1',
        'control_minor': 'amount_minor',
        'control_currency': 'currency',
        'amount_minor': 'case when version_reason is null then prior_amount_minor - amount_minor else amount_minor end',
        'currency': 'currency',
        'clearing_account': "'payables:' || processor",
        'processor': 'processor',
        'processor_account': 'processor_account',
        'strong_key': invoice_key('lines'),
        'value_date': 'invoice_date',
        'intrinsic_code': "case when version_reason is null and has_stood then 'RETRO_CORRECTION' end",
        'correction_reason': correction_reason('version_reason is null and has_stood'),
        'exclusion_reason': 'version_reason',
        'batch_id': 'batch_id',
        'file_id': 'file_id',
        'line_no': 'line_no',
    }) }}
    from lines
)

select * from final
