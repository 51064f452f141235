-- For each currency and day this close touches, the last reference rate not older than the book allows; null where there is none.
{{ config(indexes=[{'columns': ['currency', 'rate_date'], 'unique': true}]) }}

with

rates as (
    select * from {{ ref('stg_files__fx_rates') }}
),

currencies as (
    select * from {{ ref('currencies') }}
),

book as (
    select * from {{ ref('books') }} where book = 'global'
),

days as (
    select generate_series({{ business_date() }} - 400, {{ business_date() }} + 2, interval '1 day')::date as rate_date
),

wanted as (
    select
        currencies.currency,
        currencies.exponent,
        days.rate_date,
        book.reporting_currency,
        book.rate_age_days_max
    from currencies
    cross join days
    cross join book
    where currencies.currency in (
        select calendars.calendar from {{ ref('calendars') }} as calendars
        union
        select items.currency from {{ ref('int_items') }} as items
        union
        select items.fee_currency from {{ ref('int_items') }} as items
    )
),

candidates as (
    select
        wanted.currency,
        wanted.rate_date,
        rates.rate,
        rates.rate_source,
        rates.rate_date as observed_date,
        row_number() over (
            partition by wanted.currency, wanted.rate_date
            order by rates.rate_date desc, (rates.rate_source = 'treasury')::integer
        ) as recency_rank
    from wanted
    inner join rates
        on wanted.currency = rates.currency
        and rates.rate_date between wanted.rate_date - wanted.rate_age_days_max and wanted.rate_date
),

final as (
    select
        wanted.currency,
        wanted.rate_date,
        case when wanted.currency = wanted.reporting_currency then 1::numeric else candidates.rate end as rate,
        case when wanted.currency = wanted.reporting_currency then 'identity' else candidates.rate_source end as rate_source,
        case when wanted.currency = wanted.reporting_currency then wanted.rate_date else candidates.observed_date end as observed_date,
        wanted.exponent,
        wanted.reporting_currency,
        reporting.exponent as reporting_exponent
    from wanted
    inner join currencies as reporting on wanted.reporting_currency = reporting.currency
    left join candidates
        on wanted.currency = candidates.currency
        and wanted.rate_date = candidates.rate_date
        and candidates.recency_rank = 1
)

select * from final
