-- Events the parent close knew of but that happened after its business date.
{%- set columns = {
    'event_key': 'text',
    'event_type': 'text',
    'model': 'text',
    'processor': 'text',
    'bank_account': 'text',
    'value_date': 'date',
    'event_date': 'date',
    'gross_minor': 'bigint',
    'gross_currency': 'text',
    'fee_minor': 'bigint',
    'net_minor': 'bigint',
    'net_currency': 'text',
    'platform_fee_minor': 'bigint'
} %}

with

earlier_events as (
    select * from {{ earlier_rows('books', 'deferred_events', dict(columns, close_id='bigint')) }} as earlier
),

final as (
    select {{ columns.keys() | join(', ') }}
    from earlier_events
    where close_id = {{ parent_close_id() }}
)

select * from final
