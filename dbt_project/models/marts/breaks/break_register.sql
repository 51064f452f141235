with

items as (
    select * from {{ ref('reconciliation_items') }} where close_id = {{ close_id() }} and status = 'open'
),

decided as (
    select * from {{ ref('int_decided_items') }}
),

exceptions as (
    select * from {{ ref('proof_exceptions') }} where close_id = {{ close_id() }}
),

books as (
    select * from {{ ref('books') }} where book = 'global'
),

codes as (
    select * from {{ ref('break_codes') }}
),

thresholds as (
    select *
    from {{ ref('severity_thresholds') }} as thresholds
    where {{ holds_on('thresholds', business_date()) }}
),

rates as (
    select * from {{ ref('int_reporting_rates') }} where rate_date = {{ business_date() }}
),

days as (
    select * from {{ ref('business_calendar') }}
),

grouped as (
    select
        items.reconciliation,
        coalesce(items.group_id, items.item_key) as break_id,
        items.currency,
        -- The last one that any of its items was given to.
        (array_agg(decided.assigned_owner order by decided.assigned_by_action_id desc nulls last))[1] as assigned_owner,
        (array_agg(decided.last_comment order by decided.last_comment_action_id desc nulls last))[1] as last_comment,
        min(break_code) as break_code,
        min(correction_reason) as correction_reason,
        count(*) as item_count,
        coalesce(sum(amount_minor) filter (where side = 'left'), 0)::bigint as left_minor,
        coalesce(sum(amount_minor) filter (where side = 'right'), 0)::bigint as right_minor,
        sum(clearing_minor)::bigint as clearing_minor,
        max(abs(fee_variance_minor)) as fee_variance_minor,
        max(abs(amount_minor)) as largest_minor,
        min(clearing_account) as clearing_account,
        min(processor) as processor,
        min(coalesce(bank_account, processor_account)) as account,
        string_agg(source_reference, ' / ' order by side, source_reference) as source_references,
        min(value_date) as value_date,
        min(due_date) as due_date,
        min(first_seen_business_date) as first_seen_business_date,
        max(last_changed_business_date) as last_changed_business_date
    from items
    left join decided on items.item_key = decided.item_key
    group by items.reconciliation, coalesce(items.group_id, items.item_key), items.currency
),

-- What two people signed for. Several checks that tell of one subject tell of one difference: the largest of them.
excused as (
    select distinct on (exceptions.subject, exceptions.currency, exceptions.first_seen_business_date)
        'proof' as reconciliation,
        'exception:' || exceptions.subject || ':' || exceptions.first_seen_business_date as break_id,
        -- What is only counted has no currency, and no amount.
        case when exceptions.currency = 'XXX' then books.reporting_currency else exceptions.currency end as currency,
        null::text as assigned_owner,
        null::text as last_comment,
        'PROOF_EXCEPTION' as break_code,
        null::text as correction_reason,
        0::bigint as item_count,
        case when exceptions.currency = 'XXX' then 0 else exceptions.difference_minor end::bigint as left_minor,
        0::bigint as right_minor,
        case when exceptions.currency = 'XXX' then 0 else exceptions.difference_minor end::bigint as clearing_minor,
        null::bigint as fee_variance_minor,
        0::bigint as largest_minor,
        case when exceptions.check_name = 'bank_balance' then 'bank:' else '' end || exceptions.subject as clearing_account,
        null::text as processor,
        null::text as account,
        exceptions.check_name || ', signed by ' || exceptions.signed_by as source_references,
        exceptions.first_seen_business_date as value_date,
        null::date as due_date,
        exceptions.first_seen_business_date,
        exceptions.first_seen_business_date as last_changed_business_date
    from exceptions
    cross join books
    order by exceptions.subject, exceptions.currency, exceptions.first_seen_business_date,
        abs(exceptions.difference_minor) desc, exceptions.check_name
),

all_breaks as (
    select * from grouped
    union all
    select * from excused
),

-- What is at risk: what clearing is off by, else the fee difference, else the amount the doubt is about.
measured as (
    select
        all_breaks.*,
        case
            when all_breaks.clearing_minor <> 0 then abs(all_breaks.clearing_minor)
            when all_breaks.break_code = 'FEE_VARIANCE' then all_breaks.fee_variance_minor
            else all_breaks.largest_minor
        end as exposure_minor,
        today.business_day_no - first_day.business_day_no as age_business_days
    from all_breaks
    left join days as first_day
        on all_breaks.currency = first_day.calendar and all_breaks.first_seen_business_date = first_day.calendar_date
    left join days as today
        on all_breaks.currency = today.calendar and today.calendar_date = {{ business_date() }}
),

valued as (
    select
        measured.*,
        {{ to_reporting_minor('measured.exposure_minor', 'rates.rate', 'rates.exponent', 'rates.reporting_exponent') }} as reporting_exposure_minor
    from measured
    left join rates on measured.currency = rates.currency
),

graded as (
    select
        valued.*,
        coalesce(valued.assigned_owner, codes.owner) as owner,
        codes.is_timing,
        thresholds.severity,
        row_number() over (
            partition by valued.break_id, valued.currency
            order by thresholds.severity_rank desc
        ) as grade_rank
    from valued
    inner join codes on valued.break_code = codes.break_code
    -- An exposure nobody can value is not a small one; a timing item is not trouble yet, whatever its size.
    inner join thresholds
        on thresholds.severity_rank = 1
        or (
            not codes.is_timing
            and (
                coalesce(valued.reporting_exposure_minor, 9223372036854775807) >= thresholds.exposure_minor_from
                or (
                    valued.age_business_days >= thresholds.age_business_days_from
                    and valued.reporting_exposure_minor >= thresholds.aged_exposure_minor_from
                )
            )
        )
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        reconciliation,
        break_id,
        currency,
        break_code,
        severity,
        owner,
        is_timing,
        item_count,
        left_minor,
        right_minor,
        clearing_minor,
        exposure_minor,
        reporting_exposure_minor,
        clearing_account,
        processor,
        account,
        source_references,
        value_date,
        due_date,
        first_seen_business_date,
        last_changed_business_date,
        age_business_days,
        correction_reason,
        last_comment
    from graded
    where grade_rank = 1
)

select * from final
