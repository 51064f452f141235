with

kpi_match as (
    select * from {{ ref('kpi_match') }}
),

published as (
    select * from {{ source('ops', 'published') }}
),

final as (
    select
        kpi_match.business_date,
        kpi_match.reconciliation,
        kpi_match.side,
        kpi_match.currency,
        kpi_match.matched_count,
        kpi_match.due_count,
        kpi_match.matched_reporting_minor,
        kpi_match.due_reporting_minor
    from kpi_match
    inner join published on kpi_match.close_id = published.close_id
)

select * from final
