-- Reference rates as this close knows them, one a currency and day: the latest delivery wins, treasury fills what no feed covers.
with

published as (
    select
        fx_rates.currency,
        fx_rates.rate_date,
        fx_rates.rate,
        fx_rates.rate_source,
        row_number() over (
            partition by fx_rates.currency, fx_rates.rate_date order by fx_rates.batch_id desc
        ) as version_rank
    from {{ source('files', 'fx_rates') }} as fx_rates
    inner join {{ ref('stg_visible_batches') }} as visible on fx_rates.batch_id = visible.batch_id
    where fx_rates.rate_date > {{ business_date() }} - 410
),

treasury as (
    select * from {{ ref('treasury_rates') }}
),

final as (
    select currency, rate_date, rate, rate_source
    from published
    where version_rank = 1
    union all
    select currency, rate_date, rate::numeric, 'treasury'
    from treasury
    where rate_date <= {{ business_date() }}
)

select * from final
