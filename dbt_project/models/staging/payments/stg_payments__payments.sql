-- The payments that this close's captures, refunds, disputes and attempts belong to, as this close knows them.
{{ config(indexes=[{'columns': ['payment_id'], 'unique': true}]) }}

with

wanted as (
    select payment_id from {{ ref('stg_payments__captures') }}
    union
    select payment_id from {{ ref('stg_payments__refunds') }}
    union
    select payment_id from {{ ref('stg_payments__disputes') }}
    union
    select payment_id from {{ ref('stg_payments__payment_attempts') }}
),

payments as (
    {{ known_versions('payments', 'payments', ['payment_id'], 'wanted') }}
),

wanted_methods as (
    select distinct payment_method_id from payments
),

payment_methods as (
    {{ known_versions('payments', 'payment_methods', ['payment_method_id'], 'wanted_methods') }}
),

wanted_merchants as (
    select distinct merchant_id from payments
),

merchants as (
    {{ known_versions('payments', 'merchants', ['merchant_id'], 'wanted_merchants') }}
),

final as (
    select
        -- ids
        payments.payment_id,
        payments.merchant_id,
        payments.merchant_reference,

        -- attributes
        payments.market,
        payments.processor,
        payments.processor_account,
        payments.currency,
        payment_methods.method_type,
        payment_methods.network,
        merchants.model as merchant_model,

        -- numerics
        merchants.platform_fee_bps
    from payments
    left join payment_methods on payments.payment_method_id = payment_methods.payment_method_id
    left join merchants on payments.merchant_id = merchants.merchant_id
)

select * from final
