-- What contracts that are invoiced say of each line a processor settled: the fee of what this version of the line adds.
-- The line itself is priced, not its match, so that what is expected does not depend on what people link or take apart;
-- once, when the close knows both the line and the payment it is about.
{%- set earlier_columns = {
    'close_id': 'bigint', 'item_key': 'text', 'side': 'text', 'strong_key': 'text', 'reconciliation': 'text',
    'method_type': 'text', 'network': 'text', 'market': 'text', 'status': 'text', 'item_type': 'text', 'processor': 'text',
    'processor_account': 'text', 'currency': 'text', 'amount_minor': 'bigint', 'occurred_at': 'timestamptz',
    'file_id': 'bigint', 'batch_id': 'bigint',
} %}

with

contracts as (
    select * from {{ ref('stg_payments__fee_schedules') }}
    where billing = 'invoice' and pricing = 'blended' and tier_basis = 'line_amount'
),

contracted as (
    select distinct processor, item_type, currency from contracts
),

close_chain as (
    select close_id from ops.close_chain({{ parent_close_id() }})
),

earlier_items as not materialized (
    select * from {{ earlier_rows('closes', 'reconciliation_items', earlier_columns) }} as earlier
),

ledger_items as (
    select * from {{ ref('int_ledger_items') }} where method_type is not null and strong_key is not null
),

candidate_lines as (
    select
        line_key, file_id, batch_id, processor, processor_account, item_type, gross_currency as currency, occurred_at,
        gross_minor, prior_gross_minor, processor || '|' || psp_reference || '|' || family as strong_key, true as is_consumed_now
    from {{ ref('stg_files__settlement_lines') }}
    where version_reason is null
    union all
    -- Lines of earlier closes that still wait for their payment.
    select
        item_key, file_id, batch_id, processor, processor_account, item_type, currency, occurred_at,
        amount_minor, 0, strong_key, false
    from earlier_items
    where close_id = {{ parent_close_id() }} and status = 'open' and side = 'right' and reconciliation = 'payment_processor'
),

lines as (
    select candidate_lines.*, {{ business_date_of('candidate_lines.occurred_at') }} as service_date
    from candidate_lines
    inner join contracted
        on candidate_lines.processor = contracted.processor
        and candidate_lines.item_type = contracted.item_type
        and candidate_lines.currency = contracted.currency
),

wanted as (
    select distinct strong_key from lines where strong_key is not null
),

-- Our side of the line's reference, which a close before this one may have taken: key by key through the index.
known as (
    select ledger_items.strong_key, item_key, method_type, network, market, true as is_consumed_now
    from wanted
    inner join ledger_items on wanted.strong_key = ledger_items.strong_key
    union all
    select earlier.strong_key, earlier.item_key, earlier.method_type, earlier.network, earlier.market, false
    from wanted
    cross join lateral (
        select {{ earlier_columns.keys() | join(', ') }}
        from earlier_items
        where earlier_items.strong_key = wanted.strong_key

        offset 0
    ) as earlier
    inner join close_chain on earlier.close_id = close_chain.close_id
    where earlier.side = 'left' and earlier.reconciliation = 'payment_processor' and earlier.method_type is not null
),

ours as (
    select distinct on (strong_key)
        strong_key, method_type, network, market,
        bool_and(is_consumed_now) over (partition by strong_key) as is_new
    from known
    order by strong_key, item_key
),

-- What this version stands for, less what the version before it stood for: a tier or a least fee may be another's.
standings as (
    select lines.*, 1 as direction, abs(gross_minor) as charged_minor from lines where gross_minor <> 0
    union all
    select lines.*, -1, abs(prior_gross_minor) from lines where prior_gross_minor <> 0
),

candidates as (
    select
        standings.line_key,
        standings.file_id,
        standings.batch_id,
        standings.processor,
        standings.processor_account,
        standings.currency,
        date_trunc('month', standings.service_date::timestamp)::date as service_month,
        contracts.fee_type,
        contracts.fee_schedule_id,
        standings.direction * {{ contracted_part('standings.charged_minor', 'contracts') }} as fee_minor,
        row_number() over (
            partition by standings.line_key, standings.direction, contracts.fee_type
            order by
                (contracts.network <> '*')::integer + (contracts.market <> '*')::integer desc,
                contracts.tier_from_minor desc,
                contracts.fee_schedule_id
        ) as specificity_rank
    from standings
    inner join ours on standings.strong_key = ours.strong_key and (standings.is_consumed_now or ours.is_new)
    inner join contracts
        on standings.processor = contracts.processor
        and standings.item_type = contracts.item_type
        and standings.currency = contracts.currency
        and ours.method_type = contracts.method_type
        and contracts.network in (ours.network, '*')
        and contracts.market in (ours.market, '*')
        and standings.charged_minor >= contracts.tier_from_minor
        and standings.service_date >= contracts.valid_from
        and standings.service_date < coalesce(contracts.valid_to, 'infinity'::date)
),

final as (
    select
        line_key, file_id, batch_id, processor, processor_account, currency, service_month, fee_type,
        sum(fee_minor)::bigint as fee_minor
    from candidates
    where specificity_rank = 1
    group by line_key, file_id, batch_id, processor, processor_account, currency, service_month, fee_type
)

select * from final
