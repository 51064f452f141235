-- Who a payment was for, where and how it was paid: what items, postings and KPIs ask of it.
{{ config(indexes=[{'columns': ['payment_id'], 'unique': true}]) }}

with

payments as (
    select * from {{ ref('stg_payments__payments') }}
),

payment_methods as (
    select * from {{ ref('stg_payments__payment_methods') }}
),

merchants as (
    select * from {{ ref('stg_payments__merchants') }}
),

final as (
    select
        payments.payment_id,
        payments.merchant_id,
        payments.merchant_reference,
        payments.market,
        payments.processor,
        payments.processor_account,
        payments.currency,
        payment_methods.method_type,
        payment_methods.network,
        merchants.model as merchant_model,
        merchants.platform_fee_bps
    from payments
    left join payment_methods on payments.payment_method_id = payment_methods.payment_method_id
    left join merchants on payments.merchant_id = merchants.merchant_id
)

select * from final
