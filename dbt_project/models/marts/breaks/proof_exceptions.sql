{%- set earlier_columns = {
    'close_id': 'bigint', 'check_name': 'text', 'subject': 'text', 'currency': 'text',
    'first_seen_business_date': 'date', 'difference_count': 'bigint', 'difference_minor': 'numeric',
    'is_standing': 'boolean', 'signed_by': 'text', 'reason': 'text',
} %}
with

lines as (
    select check_name, subject, currency, actual_count - expected_count as difference_count, actual_minor - expected_minor as difference_minor
    from {{ ref('proof_items') }}
    where close_id = {{ close_id() }}
    union all
    select check_name, subject, currency, actual_count - expected_count, actual_minor - expected_minor
    from {{ ref('proof_clearing') }}
    where close_id = {{ close_id() }}
),

checks as (
    select * from {{ source('ops', 'excusable_checks') }}
),

signatures as (
    select * from {{ source('ops', 'close_exceptions') }} where close_id = {{ close_id() }}
),

earlier as (
    select * from {{ earlier_rows('closes', 'proof_exceptions', earlier_columns) }} as earlier_exceptions
    where close_id = {{ parent_close_id() }}
),

failed as (
    select lines.*, checks.is_standing
    from lines
    inner join checks on lines.check_name = checks.check_name
    where lines.difference_count <> 0 or lines.difference_minor <> 0
),

signed as (
    select
        check_name, subject, currency, difference_count, difference_minor,
        string_agg(actor, ', ' order by exception_id) as signed_by,
        string_agg(reason, ' / ' order by exception_id) as reason
    from signatures
    group by check_name, subject, currency, difference_count, difference_minor
    having count(distinct ops.person(actor)) >= 2
),

-- Of this close: signed for, or a balance that is off by what it was off by when the parent was excused.
excused_now as (
    select
        failed.check_name, failed.subject, failed.currency,
        coalesce(earlier.first_seen_business_date, {{ business_date() }}) as first_seen_business_date,
        failed.difference_count, failed.difference_minor, failed.is_standing,
        coalesce(signed.signed_by, earlier.signed_by) as signed_by,
        coalesce(signed.reason, earlier.reason) as reason
    from failed
    left join signed
        on failed.check_name = signed.check_name and failed.subject = signed.subject and failed.currency = signed.currency
        and failed.difference_count = signed.difference_count and failed.difference_minor = signed.difference_minor
    left join earlier
        on failed.is_standing
        and failed.check_name = earlier.check_name and failed.subject = earlier.subject and failed.currency = earlier.currency
        and failed.difference_count = earlier.difference_count and failed.difference_minor = earlier.difference_minor
    where signed.check_name is not null or earlier.check_name is not null
),

-- What an earlier close took is not looked at again: that it was taken wrongly stays true until its date is closed again.
carried as (
    select check_name, subject, currency, first_seen_business_date, difference_count, difference_minor, is_standing, signed_by, reason
    from earlier
    where not is_standing
),

exceptions as (
    select * from excused_now
    union all
    select * from carried
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        check_name,
        subject,
        currency,
        first_seen_business_date,
        difference_count,
        difference_minor,
        is_standing,
        signed_by,
        reason
    from exceptions
)

select * from final
