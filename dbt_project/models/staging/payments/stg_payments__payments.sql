-- The payments this close's captures, refunds, disputes and attempts belong to, as this close knows them.
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

latest as (
    {{ latest_versions('payments', 'payments', ['payment_id'], 'wanted') }}
),

final as (
    select
        -- ids
        payment_id,
        merchant_id,
        payment_method_id,
        merchant_reference,

        -- attributes
        market,
        processor,
        processor_account,
        currency
    from latest
)

select * from final
