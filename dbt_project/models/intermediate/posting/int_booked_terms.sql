-- Whom a movement that changes now belonged to when it was first booked, and on which terms: what is taken back goes the
-- way it came. Looked up key by key, for what changes alone.
with

visible as (
    select * from {{ ref('stg_visible_batches') }}
),

changed_captures as (
    select capture_id
    from {{ ref('stg_payments__captures') }}
    where version_rank = 1
        and has_stood
        and (amount_minor, currency) is distinct from (prior_amount_minor, prior_currency)
),

changed_refunds as (
    select refund_id
    from {{ ref('stg_payments__refunds') }}
    where version_rank = 1
        and has_stood
        and (amount_minor, currency, status) is distinct from (prior_amount_minor, prior_currency, prior_status)
),

captures as (
    {{ known_rows('payments', 'captures', ['capture_id'], 'changed_captures', ['capture_id', 'payment_id', 'amount_minor', 'batch_id']) }}
),

refunds as (
    {{ known_rows('payments', 'refunds', ['refund_id'], 'changed_refunds', ['refund_id', 'payment_id', 'amount_minor', 'status', 'batch_id']) }}
),

versions as (
    select 'capture:' || capture_id as movement, payment_id, batch_id, amount_minor <> 0 as means_money from captures
    union all
    select 'refund:' || refund_id, payment_id, batch_id, status = 'succeeded' and amount_minor <> 0 from refunds
),

-- By the date of the close and not by its number: where dates were closed again, numbers do not follow the dates.
first_booked as (
    select distinct on (versions.movement) versions.movement, versions.payment_id, visible.consumed_date as booked_date
    from versions
    inner join visible on versions.batch_id = visible.batch_id
    where versions.means_money
    order by versions.movement, visible.consumed_date, versions.batch_id desc
),

booked_payments as (
    select distinct payment_id from first_booked
),

payments as (
    {{ known_rows('payments', 'payments', ['payment_id'], 'booked_payments', ['payment_id', 'merchant_id', 'batch_id']) }}
),

paid_to as (
    select distinct on (first_booked.movement) first_booked.movement, first_booked.booked_date, payments.merchant_id
    from first_booked
    inner join payments on first_booked.payment_id = payments.payment_id
    inner join visible on payments.batch_id = visible.batch_id and visible.consumed_date <= first_booked.booked_date
    order by first_booked.movement, payments.batch_id desc
),

booked_merchants as (
    select distinct merchant_id from paid_to
),

merchants as (
    {{ known_rows('payments', 'merchants', ['merchant_id'], 'booked_merchants', ['merchant_id', 'model', 'platform_fee_bps', 'batch_id']) }}
),

final as (
    select distinct on (paid_to.movement)
        paid_to.movement,
        merchants.model as merchant_model,
        merchants.platform_fee_bps
    from paid_to
    inner join merchants on paid_to.merchant_id = merchants.merchant_id
    inner join visible on merchants.batch_id = visible.batch_id and visible.consumed_date <= paid_to.booked_date
    order by paid_to.movement, merchants.batch_id desc
)

select * from final
