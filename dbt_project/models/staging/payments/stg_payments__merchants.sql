-- The merchants this close's payments were made to, as this close knows them.
{{ config(indexes=[{'columns': ['merchant_id'], 'unique': true}]) }}

with

wanted as (
    select distinct merchant_id from {{ ref('stg_payments__payments') }}
),

latest as (
    {{ latest_versions('payments', 'merchants', ['merchant_id'], 'wanted') }}
),

final as (
    select
        -- ids
        merchant_id,

        -- attributes
        merchant_name,
        country,
        model,

        -- numerics
        platform_fee_bps
    from latest
)

select * from final
