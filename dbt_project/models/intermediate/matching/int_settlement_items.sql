-- What processors report: lines against our ledger, batches against their payout, payouts against the bank.
{%- set batch_grace = term('processors', 'payout_grace_business_days') %}
{%- set lag = term('bank_account_terms', 'settlement_lag_business_days') %}
{%- set grace = term('bank_account_terms', 'grace_business_days') %}
{%- set batch_calendar = 'coalesce(settlement_accounts.calendar, batch_totals.net_currency)' %}
{%- set bank_calendar = 'coalesce(bank_accounts.calendar, payouts.net_currency)' %}

with

lines as (
    select * from {{ ref('stg_files__settlement_lines') }}
),

settlement_accounts as (
    select * from {{ ref('settlement_accounts') }}
),

bank_accounts as (
    select * from {{ ref('bank_accounts') }}
),

currencies as (
    select * from {{ ref('currencies') }}
),

-- What asks for no partner is shown as it was counted; what does, by what it changes.
judged as (
    select
        lines.*,
        case
            when version_reason is not null then version_reason
            when item_type = 'fee' then 'PROCESSOR_FEE'
            when item_type in ('payout', 'payout_return') then 'PAYOUT_RECORD'
        end as exclusion_reason,
        version_reason is null and has_stood as is_correction,
        has_prior_version and version_rank = 1 and not is_deleted and item_type not in ('payout', 'payout_return')
        and batch_reference is distinct from prior_batch_reference
        and (prior_batch_reference is null or prior_net_minor <> 0) as is_moved,
        case when version_reason is null then net_minor - prior_net_minor else 0 end as net_change_minor,
        case when version_reason is null then fee_minor - prior_fee_minor else fee_minor end as fee_change_minor,
        gross_currency <> net_currency and gross_minor <> 0 as is_converted,
        {{ round_half_even('gross_minor * exchange_rate * power(10::numeric, net_exponent.exponent - gross_exponent.exponent)') }} as converted_minor
    from lines
    left join currencies as gross_exponent on lines.gross_currency = gross_exponent.currency
    left join currencies as net_exponent on lines.net_currency = net_exponent.currency
),

line_items as (
    select
        'line:' || line_key || {{ version_suffix('version_no') }} as item_key,
        'payment_processor' as reconciliation,
        case item_type when 'reserve_hold' then 'left' else 'right' end as side,
        case
            when psp_reference is null then processor || ':' || file_name || ':' || line_no
            when item_type = 'reserve_hold' then psp_reference
            else processor || ':' || psp_reference || ':' || record_type
        end as source_reference,
        'gross_minor' as control_measure,
        1 as control_count,
        gross_minor as control_minor,
        gross_currency as control_currency,
        case
            when exclusion_reason is not null then gross_minor
            when item_type = 'reserve_hold' then prior_gross_minor - gross_minor
            else gross_minor - prior_gross_minor
        end as amount_minor,
        gross_currency as currency,
        case when item_type in ('reserve_hold', 'reserve_release') then 'reserve_receivable:' else 'psp_clearing:' end
        || processor as clearing_account,
        case when psp_reference is not null and item_type <> 'unmapped'
            then processor || '|' || psp_reference || '|' || family end as strong_key,
        case when merchant_reference is not null and item_type <> 'unmapped'
            then processor || '|' || merchant_reference || '|' || family || '|' || gross_currency || '|' || gross_minor end as weak_key,
        case
            when exclusion_reason is not null then null
            when is_correction then 'RETRO_CORRECTION'
            when item_type = 'unmapped' then 'UNMAPPED_TYPE'
            when item_type in ('reserve_hold', 'reserve_release') then null
            when psp_reference is null and merchant_reference is null then 'MISSING_KEY'
        end as intrinsic_code,
        {{ correction_reason('is_correction') }} as correction_reason,
        exclusion_reason,
        -- A line that is nothing but a fee costs its net.
        case when item_type = 'fee' then case when version_reason is null then -net_change_minor else -net_minor end
            else fee_change_minor end as cost_minor,
        case when not is_correction then interchange_minor end as interchange_minor,
        case when not is_correction then scheme_fee_minor end as scheme_fee_minor,
        -- The processor's own arithmetic: what it converted is the net and its fee together.
        case when is_converted and not is_correction then net_minor + fee_minor - converted_minor end as fx_variance_minor,
        is_converted and exchange_rate is null as is_rate_missing,
        processor, processor_account, batch_reference, net_currency, occurred_at, booked_date, batch_id, file_id, line_no, item_type
    from judged
),

-- What each line adds to a batch. A line that stands in another batch now, or waits no more, leaves the one it was in.
-- One that does not stand is shown where the line it repeats was.
batch_parts as (
    select
        processor, processor_account,
        coalesce(batch_reference, case when version_rank > 1 then prior_batch_reference end, 'none') as batch_reference,
        net_currency, file_id, batch_id, line_key, version_no, booked_at, booked_date,
        1 as line_count,
        net_minor,
        case when is_moved then net_minor else net_change_minor end as change_minor,
        case when not is_moved then version_reason end as unchanged_reason,
        not is_moved and (is_correction or (has_prior_version and document_no is not null)) as is_correction,
        is_deleted
    from judged
    where item_type not in ('payout', 'payout_return')
    union all
    select
        processor, processor_account, coalesce(prior_batch_reference, 'none'),
        net_currency, file_id, batch_id, line_key || ':moved', version_no, booked_at, booked_date,
        0, 0, -prior_net_minor, null, prior_batch_reference is not null, false
    from judged
    where is_moved
),

-- One item a batch, file and currency: the processor's net of everything it says it will pay out. Of a batch that was
-- reported before, what this report changes.
batch_lines as (
    select
        processor,
        processor_account,
        batch_reference,
        net_currency,
        file_id,
        batch_id,
        min(line_key) as first_line_key,
        max(version_no) as version_no,
        sum(line_count) as line_count,
        sum(net_minor)::bigint as net_minor,
        sum(change_minor)::bigint as net_change_minor,
        case when bool_and(unchanged_reason is not null) then max(unchanged_reason) end as exclusion_reason,
        bool_or(is_correction) as is_correction,
        bool_and(is_deleted or unchanged_reason is not null) as is_deleted,
        max(booked_at) as booked_at,
        max(booked_date) as booked_date
    from batch_parts
    group by processor, processor_account, batch_reference, net_currency, file_id, batch_id
),

batch_totals as (
    select
        batch_lines.*,
        'batch:' || first_line_key || {{ version_suffix('version_no') }} as item_key,
        case when exclusion_reason is null then net_change_minor else net_minor end as amount_minor
    from batch_lines
),

payouts as (
    select
        judged.*,
        -net_change_minor as payout_minor,
        {{ version_suffix('version_no') }} as key_suffix,
        settlement_accounts.bank_account
    from judged
    left join settlement_accounts
        on judged.processor = settlement_accounts.processor
        and judged.processor_account = settlement_accounts.processor_account
        and judged.net_currency = settlement_accounts.currency
        and {{ holds_on('settlement_accounts', 'judged.booked_date') }}
    where judged.item_type in ('payout', 'payout_return')
),

final as (
    select {{ as_item({
        'item_key': 'item_key',
        'reconciliation': 'reconciliation',
        'side': 'side',
        'item_type': 'item_type',
        'source_reference': 'source_reference',
        'source_name': "'files'",
        'source_table': "'settlement_lines'",
        'control_measure': 'control_measure',
        'control_count': 'control_count',
        'control_minor': 'control_minor',
        'control_currency': 'control_currency',
        'amount_minor': 'amount_minor',
        'currency': 'currency',
        'clearing_account': 'clearing_account',
        'processor': 'processor',
        'processor_account': 'processor_account',
        'strong_key': 'strong_key',
        'weak_key': 'weak_key',
        'batch_key': batch_key('line_items'),
        'occurred_at': 'occurred_at',
        'value_date': 'booked_date',
        'fee_minor': 'cost_minor',
        'fee_currency': 'net_currency',
        'interchange_minor': 'interchange_minor',
        'scheme_fee_minor': 'scheme_fee_minor',
        'fx_variance_minor': 'fx_variance_minor',
        'is_rate_missing': 'is_rate_missing',
        'intrinsic_code': 'intrinsic_code',
        'correction_reason': 'correction_reason',
        'exclusion_reason': 'exclusion_reason',
        'batch_id': 'batch_id',
        'file_id': 'file_id',
        'line_no': 'line_no',
    }) }}
    from line_items
    union all
    select {{ as_item({
        'item_key': 'item_key',
        'reconciliation': "'batch_payout'",
        'side': "'left'",
        'item_type': "'settlement_batch'",
        'source_reference': "
            batch_totals.processor || ':' || batch_totals.processor_account || ':' || batch_reference || ':' || net_currency",
        'source_name': "'files'",
        'source_table': "'settlement_lines'",
        'control_measure': "'net_minor'",
        'control_count': 'line_count',
        'control_minor': 'net_minor',
        'control_currency': 'net_currency',
        'amount_minor': 'amount_minor',
        'currency': 'net_currency',
        'clearing_account': "'psp_balance:' || batch_totals.processor",
        'processor': 'batch_totals.processor',
        'processor_account': 'batch_totals.processor_account',
        'strong_key': batch_key('batch_totals'),
        'batch_key': batch_key('batch_totals'),
        'occurred_at': 'booked_at',
        'value_date': 'booked_date',
        'expected_date': 'booked_date',
        'due_date': 'coalesce(due_day.calendar_date, booked_date + ' ~ batch_grace ~ ')',
        'intrinsic_code': "case when exclusion_reason is null and is_correction then 'RETRO_CORRECTION' end",
        'correction_reason': correction_reason('exclusion_reason is null and is_correction'),
        'exclusion_reason': 'exclusion_reason',
        'batch_id': 'batch_id',
        'file_id': 'file_id',
    }) }}
    from batch_totals
    left join settlement_accounts
        on batch_totals.processor = settlement_accounts.processor
        and batch_totals.processor_account = settlement_accounts.processor_account
        and batch_totals.net_currency = settlement_accounts.currency
        and {{ holds_on('settlement_accounts', 'batch_totals.booked_date') }}
    {{ join_terms('processors', 'processor', 'batch_totals.processor', 'batch_totals.booked_date') }}
    {{ join_business_day('batch_day', 'due_day', batch_calendar, 'batch_totals.booked_date', batch_grace) }}
    union all
    select {{ as_item({
        'item_key': "'payout:' || line_key || key_suffix",
        'reconciliation': "'batch_payout'",
        'side': "'right'",
        'item_type': 'item_type',
        'source_reference': "processor || ':' || processor_account || ':' || coalesce(batch_reference, 'none') || ':' || net_currency",
        'source_name': "'files'",
        'source_table': "'settlement_lines'",
        'control_measure': "'net_minor'",
        'control_count': '1',
        'control_minor': 'net_minor',
        'control_currency': 'net_currency',
        'amount_minor': 'case when version_reason is null then payout_minor else net_minor end',
        'currency': 'net_currency',
        'clearing_account': "'psp_balance:' || processor",
        'processor': 'processor',
        'processor_account': 'processor_account',
        'bank_account': 'bank_account',
        'strong_key': batch_key('payouts'),
        'batch_key': batch_key('payouts'),
        'occurred_at': 'booked_at',
        'value_date': 'booked_date',
        'intrinsic_code': "case when is_correction then 'RETRO_CORRECTION' end",
        'correction_reason': correction_reason('is_correction'),
        'exclusion_reason': 'version_reason',
        'batch_id': 'batch_id',
        'file_id': 'file_id',
        'line_no': 'line_no',
    }) }}
    from payouts
    union all
    select {{ as_item({
        'item_key': "'transfer:' || payouts.line_key || payouts.key_suffix",
        'reconciliation': "'processor_bank'",
        'side': "'left'",
        'item_type': 'payouts.item_type',
        'source_reference': "payouts.processor || ':' || coalesce(payouts.psp_reference, payouts.file_name || ':' || payouts.line_no)",
        'source_name': "'files'",
        'source_table': "'settlement_lines'",
        'amount_minor': 'payouts.payout_minor',
        'currency': 'payouts.net_currency',
        'clearing_account': "'cash_in_transit:' || payouts.processor",
        'processor': 'payouts.processor',
        'processor_account': 'payouts.processor_account',
        'bank_account': 'payouts.bank_account',
        'strong_key': "payouts.processor || '|' || " ~ normalised_reference('payouts.psp_reference'),
        'weak_key': "payouts.processor || '|' || payouts.bank_account || '|' || payouts.payout_minor",
        'pool_key': "
            payouts.processor || '|' || payouts.bank_account || '|' || payouts.net_currency
            || '|' || coalesce(expected_day.calendar_date, payouts.booked_date + " ~ lag ~ ')',
        'batch_key': batch_key('payouts'),
        'occurred_at': 'payouts.booked_at',
        'value_date': 'payouts.booked_date',
        'expected_date': 'coalesce(expected_day.calendar_date, payouts.booked_date + ' ~ lag ~ ')',
        'due_date': 'coalesce(due_day.calendar_date, payouts.booked_date + ' ~ lag ~ ' + ' ~ grace ~ ')',
        'intrinsic_code': "case when payouts.is_correction then 'RETRO_CORRECTION' end",
        'correction_reason': correction_reason('payouts.is_correction'),
        'batch_id': 'payouts.batch_id',
        'file_id': 'payouts.file_id',
        'line_no': 'payouts.line_no',
    }) }}
    from payouts
    left join bank_accounts on payouts.bank_account = bank_accounts.bank_account
    {{ join_terms('bank_account_terms', 'bank_account', 'payouts.bank_account', 'payouts.booked_date') }}
    {{ join_business_day('start_day', 'expected_day', bank_calendar, 'payouts.booked_date', lag) }}
    {{ join_business_day('grace_day', 'due_day', bank_calendar, 'expected_day.calendar_date', grace) }}
    -- A version that changes nothing, or nothing of the net, announces no money.
    where payouts.version_reason is null and not (payouts.is_correction and payouts.payout_minor = 0)
)

select * from final
