{# Round to a whole minor unit, halves to the even neighbour (Postgres rounds them away from zero). #}
{% macro round_half_even(amount) %}
    (case
        when abs(({{ amount }}) - trunc({{ amount }})) = 0.5 then 2 * round(({{ amount }}) / 2)
        else round({{ amount }})
    end)::bigint
{% endmacro %}

{#
  Minor units of one currency as minor units of the reporting currency: `rate` is units of `currency` for one unit
  of the reporting currency; exponents come from the currencies seed. Null when there is no rate.
#}
{% macro to_reporting_minor(amount_minor, rate, exponent, reporting_exponent) %}
    {{ round_half_even(amount_minor ~ '::numeric * power(10::numeric, ' ~ reporting_exponent ~ ') / (' ~ rate ~ ' * power(10::numeric, ' ~ exponent ~ '))') }}
{% endmacro %}

{# A sum that is null when a part is: a figure that silently leaves out what nobody could value is a wrong figure. #}
{% macro sum_or_null(amount, condition='true') %}
    (case
        when count(*) filter (where {{ condition }}) = count({{ amount }}) filter (where {{ condition }})
            then coalesce(sum({{ amount }}) filter (where {{ condition }}), 0)
    end)
{% endmacro %}
