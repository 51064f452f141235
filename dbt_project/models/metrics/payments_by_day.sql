with

kpi_daily as (
    select * from {{ ref('kpi_daily') }}
),

published as (
    select * from {{ source('ops', 'published') }}
),

final as (
    select
        kpi_daily.value_date,
        kpi_daily.market,
        kpi_daily.method_type,
        kpi_daily.network,
        kpi_daily.processor,
        kpi_daily.currency,
        kpi_daily.submitted_count,
        kpi_daily.authorised_count,
        kpi_daily.captured_count,
        kpi_daily.captured_reporting_minor,
        kpi_daily.refunded_reporting_minor,
        kpi_daily.dispute_count,
        kpi_daily.settled_reporting_minor,
        kpi_daily.cost_reporting_minor,
        kpi_daily.banked_count,
        kpi_daily.settlement_lag_days_total
    from kpi_daily
    inner join published on kpi_daily.close_id = published.close_id
)

select * from final
