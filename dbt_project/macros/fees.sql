{# What a contract itself charges on an amount in minor units: percentage and fixed part, within its bounds. #}
{% macro contracted_part(amount_minor, contract) %}
    greatest({{ contract }}.minimum_minor, least(
        {{ contract }}.maximum_minor,
        {{ round_half_even(amount_minor ~ '::numeric * ' ~ contract ~ '.pct_bps / 10000') }} + {{ contract }}.fixed_minor
    ))
{% endmacro %}
