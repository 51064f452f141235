with

rates as (
    select * from {{ ref('int_reporting_rates') }} where rate_date = {{ business_date() }}
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        currency,
        reporting_currency,
        rate,
        rate_source,
        observed_date,
        rate_date - observed_date as age_days
    from rates
)

select * from final
