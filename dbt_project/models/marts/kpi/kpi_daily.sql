{%- set earlier_columns = {
    'close_id': 'bigint', 'reconciliation': 'text', 'side': 'text', 'status': 'text', 'strong_key': 'text', 'batch_key': 'text', 'group_id': 'text',
    'ledger_date': 'date', 'reported_date': 'date', 'market': 'text', 'method_type': 'text', 'network': 'text',
    'processor': 'text', 'currency': 'text', 'item_type': 'text', 'correction_reason': 'text', 'exclusion_reason': 'text', 'amount_minor': 'bigint',
} %}

with

attempts as (
    select * from {{ ref('stg_payments__payment_attempts') }} where version_rank = 1 and not has_prior_version
),

payments as (
    select * from {{ ref('int_payments') }}
),

ledger_events as (
    select * from {{ ref('int_ledger_items') }} where exclusion_reason is null
),

disputes as (
    select * from {{ ref('stg_payments__disputes') }} where version_rank = 1 and not has_prior_version and stage = 'chargeback'
),

items as (
    select * from {{ ref('reconciliation_items') }} where close_id = {{ close_id() }}
),

close_chain as (
    select close_id from ops.close_chain({{ close_id() }})
),

all_items as not materialized (
    select * from {{ earlier_rows('closes', 'reconciliation_items', earlier_columns) }} as earlier
),

rates as (
    select * from {{ ref('int_reporting_rates') }}
),

attempt_measures as (
    select
        {{ business_date_of('attempts.attempted_at') }} as value_date,
        payments.market, payments.method_type, payments.network, attempts.processor,
        coalesce(payments.currency, 'XXX') as currency,
        count(*) filter (where attempts.outcome in ('authorised', 'declined', 'error')) as submitted_count,
        count(*) filter (where attempts.outcome = 'authorised') as authorised_count
    from attempts
    left join payments on attempts.payment_id = payments.payment_id
    group by 1, 2, 3, 4, 5, 6
),

ledger_measures as (
    select
        value_date as value_date, market, method_type, network, processor, currency,
        count(*) filter (where item_type = 'capture' and intrinsic_code is null) as captured_count,
        coalesce(sum(amount_minor) filter (where item_type = 'capture'), 0) as captured_minor,
        count(*) filter (where item_type = 'refund' and intrinsic_code is null) as refund_count,
        coalesce(-sum(amount_minor) filter (where item_type = 'refund'), 0) as refunded_minor
    from ledger_events
    group by 1, 2, 3, 4, 5, 6
),

dispute_measures as (
    select
        {{ business_date_of('disputes.stage_at') }} as value_date,
        payments.market, payments.method_type, payments.network, disputes.processor, disputes.currency,
        count(*) as dispute_count,
        count(*) filter (where disputes.is_fraud) as fraud_dispute_count
    from disputes
    left join payments on disputes.payment_id = payments.payment_id
    group by 1, 2, 3, 4, 5, 6
),

-- What a settled line cost belongs to the market and method of the ledger item it is paired with.
partners as (
    select group_id, min(market) as market, min(method_type) as method_type, min(network) as network
    from items
    where side = 'left' and reconciliation = 'payment_processor' and group_id is not null
    group by group_id
),

cost_lines as (
    select
        items.value_date as value_date,
        partners.market, partners.method_type, partners.network, items.processor, items.currency,
        items.fee_currency,
        items.fee_minor as cost_minor,
        case when items.item_type = 'capture' then items.amount_minor else 0 end as settled_minor
    from items
    left join partners on items.group_id = partners.group_id
    where items.reconciliation = 'payment_processor'
        and items.side = 'right'
        and items.is_entering
        and coalesce(items.exclusion_reason, 'PROCESSOR_FEE') = 'PROCESSOR_FEE'
),

cost_sums as (
    select value_date, market, method_type, network, processor, currency, fee_currency,
        sum(cost_minor) as cost_minor, sum(settled_minor) as settled_minor
    from cost_lines
    group by 1, 2, 3, 4, 5, 6, 7
),

cost_measures as (
    select
        cost_sums.value_date, market, method_type, network, processor, cost_sums.currency,
        {{ sum_or_null(to_reporting_minor('cost_sums.settled_minor', 'gross_rate.rate', 'gross_rate.exponent', 'gross_rate.reporting_exponent')) }} as settled_reporting_minor,
        {{ sum_or_null(to_reporting_minor('cost_sums.cost_minor', 'fee_rate.rate', 'fee_rate.exponent', 'fee_rate.reporting_exponent')) }} as cost_reporting_minor
    from cost_sums
    left join rates as gross_rate on cost_sums.currency = gross_rate.currency and cost_sums.value_date = gross_rate.rate_date
    left join rates as fee_rate on cost_sums.fee_currency = fee_rate.currency and cost_sums.value_date = fee_rate.rate_date
    group by 1, 2, 3, 4, 5, 6
),

-- Captures whose payout reached the bank in this close, found by the batch that carried them. A payout that names no
-- batch says nothing of the lines that wait for theirs. Earlier closes are asked through their indexes: `offset 0` keeps
-- the planner from reading all of them.
banked_batches as (
    select batch_key, min(reported_date) as value_date
    from items
    where reconciliation = 'processor_bank' and side = 'left' and status = 'matched' and not {{ waits_for_batch('batch_key') }}
    group by batch_key
),

batch_lines as (
    select all_items.*, banked_batches.value_date as banked_date
    from banked_batches
    cross join lateral (select * from all_items as found where found.batch_key = banked_batches.batch_key offset 0) as all_items
    inner join close_chain on all_items.close_id = close_chain.close_id
    where all_items.reconciliation = 'payment_processor' and all_items.side = 'right' and all_items.item_type = 'capture'
),

-- A line that waited for its batch was matched while it waited; that it joined the batch is a later version of it.
named_lines as (
    select strong_key, amount_minor, min(banked_date) as banked_date
    from batch_lines
    where strong_key is not null and exclusion_reason = 'UNCHANGED_VERSION'
    group by strong_key, amount_minor
),

banked_lines as (
    select close_id, group_id, status, correction_reason, processor, currency, ledger_date, banked_date as value_date
    from batch_lines
    union all
    select
        all_items.close_id, all_items.group_id, all_items.status, all_items.correction_reason, all_items.processor,
        all_items.currency, all_items.ledger_date, named_lines.banked_date
    from named_lines
    cross join lateral (select * from all_items as found where found.strong_key = named_lines.strong_key offset 0) as all_items
    inner join close_chain on all_items.close_id = close_chain.close_id
    where all_items.amount_minor = named_lines.amount_minor
        and all_items.reconciliation = 'payment_processor'
        and all_items.side = 'right'
        and all_items.item_type = 'capture'
        and {{ waits_for_batch('all_items.batch_key') }}
),

settled_lines as (
    select close_id, group_id, processor, currency, ledger_date, value_date
    from banked_lines
    where status = 'matched' and correction_reason is null
),

settled_partners as (
    select distinct all_items.close_id, all_items.group_id, all_items.market, all_items.method_type, all_items.network
    from (select distinct close_id from settled_lines) as settling_closes
    cross join lateral (
        select * from all_items as found where found.close_id = settling_closes.close_id and found.side = 'left' offset 0
    ) as all_items
    inner join settled_lines
        on all_items.close_id = settled_lines.close_id and all_items.group_id = settled_lines.group_id
),

lag_measures as (
    select
        settled_lines.value_date, settled_partners.market, settled_partners.method_type, settled_partners.network,
        settled_lines.processor, settled_lines.currency,
        count(*) as banked_count,
        sum(settled_lines.value_date - settled_lines.ledger_date) as settlement_lag_days_total
    from settled_lines
    inner join settled_partners
        on settled_lines.close_id = settled_partners.close_id and settled_lines.group_id = settled_partners.group_id
    group by 1, 2, 3, 4, 5, 6
),

measures as (
    select value_date, market, method_type, network, processor, currency,
        submitted_count, authorised_count, 0 as captured_count, 0 as captured_minor, 0 as refund_count, 0 as refunded_minor,
        0 as dispute_count, 0 as fraud_dispute_count, 0 as settled_reporting_minor, 0 as cost_reporting_minor,
        0 as banked_count, 0 as settlement_lag_days_total
    from attempt_measures
    union all
    select value_date, market, method_type, network, processor, currency,
        0, 0, captured_count, captured_minor, refund_count, refunded_minor, 0, 0, 0, 0, 0, 0
    from ledger_measures
    union all
    select value_date, market, method_type, network, processor, currency,
        0, 0, 0, 0, 0, 0, dispute_count, fraud_dispute_count, 0, 0, 0, 0
    from dispute_measures
    union all
    select value_date, market, method_type, network, processor, currency,
        0, 0, 0, 0, 0, 0, 0, 0, settled_reporting_minor, cost_reporting_minor, 0, 0
    from cost_measures
    union all
    select value_date, market, method_type, network, processor, currency,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, banked_count, settlement_lag_days_total
    from lag_measures
),

totals as (
    select
        value_date,
        coalesce(market, 'unknown') as market,
        coalesce(method_type, 'unknown') as method_type,
        coalesce(network, 'unknown') as network,
        processor,
        currency,
        sum(submitted_count)::bigint as submitted_count,
        sum(authorised_count)::bigint as authorised_count,
        sum(captured_count)::bigint as captured_count,
        sum(captured_minor)::bigint as captured_minor,
        sum(refund_count)::bigint as refund_count,
        sum(refunded_minor)::bigint as refunded_minor,
        sum(dispute_count)::bigint as dispute_count,
        sum(fraud_dispute_count)::bigint as fraud_dispute_count,
        {{ sum_or_null('settled_reporting_minor') }}::bigint as settled_reporting_minor,
        {{ sum_or_null('cost_reporting_minor') }}::bigint as cost_reporting_minor,
        sum(banked_count)::bigint as banked_count,
        sum(settlement_lag_days_total)::bigint as settlement_lag_days_total
    from measures
    group by 1, 2, 3, 4, 5, 6
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        totals.value_date,
        totals.market,
        totals.method_type,
        totals.network,
        totals.processor,
        totals.currency,
        totals.submitted_count,
        totals.authorised_count,
        totals.captured_count,
        totals.captured_minor,
        {{ to_reporting_minor('totals.captured_minor', 'rates.rate', 'rates.exponent', 'rates.reporting_exponent') }} as captured_reporting_minor,
        totals.refund_count,
        totals.refunded_minor,
        {{ to_reporting_minor('totals.refunded_minor', 'rates.rate', 'rates.exponent', 'rates.reporting_exponent') }} as refunded_reporting_minor,
        totals.dispute_count,
        totals.fraud_dispute_count,
        totals.settled_reporting_minor,
        totals.cost_reporting_minor,
        totals.banked_count,
        totals.settlement_lag_days_total
    from totals
    left join rates on totals.currency = rates.currency and totals.value_date = rates.rate_date
)

select * from final
