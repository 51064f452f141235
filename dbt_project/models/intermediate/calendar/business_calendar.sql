{{ config(indexes=[
    {'columns': ['calendar', 'calendar_date'], 'unique': true},
    {'columns': ['calendar', 'business_day_no', 'is_business_day']},
]) }}

with

calendars as (
    select * from {{ ref('calendars') }}
),

holidays as (
    select * from {{ ref('holidays') }}
),

days as (
    select generate_series(date '2020-01-01', date '2040-12-31', interval '1 day')::date as calendar_date
),

marked as (
    select
        calendars.calendar,
        days.calendar_date,
        extract(isodow from days.calendar_date) not in (calendars.weekend_first_iso_day, calendars.weekend_second_iso_day)
        and holidays.holiday is null as is_business_day
    from calendars
    cross join days
    left join holidays on calendars.calendar = holidays.calendar and days.calendar_date = holidays.holiday
),

final as (
    select
        calendar,
        calendar_date,
        is_business_day,
        sum(is_business_day::integer) over (partition by calendar order by calendar_date)::integer as business_day_no
    from marked
)

select * from final
