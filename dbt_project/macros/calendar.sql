{#
  The n-th business day strictly after a date; for n = 0 the date itself, or the next business day when it is none.
  No day at all where there is no such calendar. Two joins to business_calendar: `start_day` at the date, `end_day` at the
  number of the day wanted.
#}
{% macro join_business_day(start_day, end_day, calendar, from_date, days) %}
    left join {{ ref('business_calendar') }} as {{ start_day }}
        on {{ start_day }}.calendar = {{ calendar }}
        and {{ start_day }}.calendar_date = {{ from_date }}
    left join {{ ref('business_calendar') }} as {{ end_day }}
        on {{ end_day }}.calendar = {{ calendar }}
        and {{ end_day }}.is_business_day
        and {{ end_day }}.business_day_no
            = {{ start_day }}.business_day_no + greatest({{ days }}, 1 - {{ start_day }}.is_business_day::integer)
{% endmacro %}
