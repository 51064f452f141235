-- The methods this close's payments were made with, as this close knows them.
{{ config(indexes=[{'columns': ['payment_method_id'], 'unique': true}]) }}

with

wanted as (
    select distinct payment_method_id from {{ ref('stg_payments__payments') }}
),

latest as (
    {{ latest_versions('payments', 'payment_methods', ['payment_method_id'], 'wanted') }}
),

final as (
    select
        -- ids
        payment_method_id,

        -- attributes
        method_type,
        network,
        issuer_country
    from latest
)

select * from final
