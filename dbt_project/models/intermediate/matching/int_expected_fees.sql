-- What the contracts say each settled capture, refund or chargeback should have cost: of each fee type the most specific
-- contract of the day of the movement, in the highest tier that its basis reached.
with

matches as (
    select * from {{ ref('int_matches') }}
),

items as (
    select * from {{ ref('int_items') }}
),

fee_schedules as (
    select * from {{ ref('stg_payments__fee_schedules') }}
),

fee_volumes as (
    select * from {{ ref('fee_volumes') }}
),

close_chain as (
    select close_id from ops.close_chain({{ parent_close_id() }})
    union all
    select {{ close_id() }}
),

pairs as (
    select
        theirs.item_key,
        ours.item_key as ledger_item_key,
        ours_match.group_id,
        ours.item_type,
        ours.processor,
        ours.method_type,
        ours.network,
        ours.market,
        ours.value_date,
        theirs.value_date as reported_date,
        abs(theirs.amount_minor) as amount_minor,
        theirs.currency,
        theirs.fee_minor,
        theirs.interchange_minor + theirs.scheme_fee_minor as passed_through_minor
    from matches as ours_match
    inner join items as ours on ours_match.item_key = ours.item_key
    inner join matches as theirs_match
        on ours_match.group_id = theirs_match.group_id and theirs_match.side = 'right' and theirs_match.decision = 'paired'
        -- Differences have no contract.
        and theirs_match.rule_id is distinct from 'corrected'
    inner join items as theirs
        on theirs_match.item_key = theirs.item_key
        and ours.item_type = theirs.item_type
        and theirs.currency = theirs.fee_currency
    where ours_match.side = 'left'
        and ours_match.decision = 'paired'
        and ours.reconciliation = 'payment_processor'
        and ours.item_type in ('capture', 'refund', 'chargeback')
),

-- Lines that settle one movement of ours, in their order: what was settled with each, and in the end.
shares as (
    select
        pairs.*,
        min(ledger_item_key) over same_movement = max(ledger_item_key) over same_movement as settles_one_item,
        sum(amount_minor) over same_movement as item_minor,
        sum(amount_minor) over (same_movement order by reported_date, item_key rows unbounded preceding) as settled_minor,
        row_number() over (same_movement order by reported_date, item_key) as line_rank,
        (date_trunc('month', value_date) - interval '1 month')::date as volume_month
    from pairs
    window same_movement as (partition by group_id, item_type, currency)
),

wanted_months as (
    select distinct volume_month from shares
),

-- What was captured under each contract whose tiers go by it, in the months that decide now.
volumes as (
    select fee_schedules.fee_schedule_id, fee_volumes.capture_month, sum(fee_volumes.captured_minor) as captured_minor
    from fee_schedules
    inner join fee_volumes
        on fee_schedules.processor = fee_volumes.processor
        and fee_schedules.method_type = fee_volumes.method_type
        and fee_schedules.network in (fee_volumes.network, '*')
        and fee_schedules.market in (fee_volumes.market, '*')
        and fee_schedules.currency = fee_volumes.currency
    inner join close_chain on fee_volumes.close_id = close_chain.close_id
    inner join wanted_months on fee_volumes.capture_month = wanted_months.volume_month
    where fee_schedules.tier_basis = 'month_volume'
    group by fee_schedules.fee_schedule_id, fee_volumes.capture_month
),

candidates as (
    select
        shares.item_key,
        shares.fee_minor,
        shares.passed_through_minor,
        shares.amount_minor,
        shares.settled_minor,
        shares.line_rank,
        fee_schedules.charged_per = 'item' and shares.settles_one_item as is_priced_as_one,
        fee_schedules.billing = 'settlement' as is_kept_back,
        fee_schedules.billing = 'settlement' and fee_schedules.pricing = 'interchange_plus_plus' as passes_through,
        fee_schedules.fee_schedule_id,
        fee_schedules.pct_bps,
        fee_schedules.fixed_minor,
        fee_schedules.minimum_minor,
        fee_schedules.maximum_minor,
        row_number() over (
            partition by shares.item_key, fee_schedules.fee_type
            order by
                (fee_schedules.network <> '*')::integer + (fee_schedules.market <> '*')::integer desc,
                fee_schedules.tier_from_minor desc,
                fee_schedules.fee_schedule_id
        ) as specificity_rank
    from shares
    inner join fee_schedules
        on shares.processor = fee_schedules.processor
        and shares.method_type = fee_schedules.method_type
        and fee_schedules.network in (shares.network, '*')
        and fee_schedules.market in (shares.market, '*')
        and fee_schedules.item_type = shares.item_type
        and fee_schedules.currency = shares.currency
        and shares.value_date >= fee_schedules.valid_from
        and shares.value_date < coalesce(fee_schedules.valid_to, 'infinity'::date)
    left join volumes
        on fee_schedules.fee_schedule_id = volumes.fee_schedule_id
        and volumes.capture_month = shares.volume_month
    where fee_schedules.pricing in ('blended', 'interchange_plus_plus')
        -- Where processing is invoiced, a line costs nothing; what else is invoiced says nothing of the line.
        and (fee_schedules.billing = 'settlement' or fee_schedules.billing = 'invoice' and fee_schedules.fee_type = 'processing')
        and fee_schedules.tier_from_minor <= case
            when fee_schedules.tier_basis = 'month_volume' then coalesce(volumes.captured_minor, 0)
            when fee_schedules.charged_per = 'item' and shares.settles_one_item then shares.item_minor
            else shares.amount_minor
        end
),

-- Of lines priced as one, each costs what it adds to the price of those before it.
priced as (
    select
        candidates.*,
        case
            when not is_kept_back then 0
            when not is_priced_as_one then {{ contracted_part('candidates.amount_minor', 'candidates') }}
            when line_rank = 1 then {{ contracted_part('candidates.settled_minor', 'candidates') }}
            else {{ contracted_part('candidates.settled_minor', 'candidates') }}
                - {{ contracted_part('(candidates.settled_minor - candidates.amount_minor)', 'candidates') }}
        end as charged_minor
    from candidates
    where specificity_rank = 1
),

final as (
    select
        item_key,
        (sum(charged_minor) + case when bool_or(passes_through) then passed_through_minor else 0 end)::bigint as expected_fee_minor,
        string_agg(fee_schedule_id, '+' order by fee_schedule_id) as fee_schedule_id,
        bool_or(passes_through) and passed_through_minor > fee_minor as is_contradicted
    from priced
    group by item_key, passed_through_minor, fee_minor
    -- What is passed through and not stated has no price.
    having not bool_or(passes_through) or passed_through_minor is not null
)

select * from final
