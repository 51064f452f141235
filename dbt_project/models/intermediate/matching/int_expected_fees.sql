-- What the contract says each settled capture should have cost: the most specific schedule of its day.
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

pairs as (
    select
        ours.item_key as ledger_item_key,
        theirs.item_key,
        ours.processor,
        ours.method_type,
        ours.network,
        ours.market,
        ours.value_date,
        theirs.amount_minor,
        theirs.currency,
        theirs.fee_currency
    from matches as ours_match
    inner join items as ours on ours_match.item_key = ours.item_key
    inner join matches as theirs_match
        on ours_match.group_id = theirs_match.group_id and theirs_match.side = 'right' and theirs_match.decision = 'paired'
        -- Differences have no contract.
        and theirs_match.rule_id is distinct from 'corrected'
    inner join items as theirs on theirs_match.item_key = theirs.item_key
    where ours_match.side = 'left'
        and ours_match.decision = 'paired'
        and ours.reconciliation = 'payment_processor'
        and ours.item_type = 'capture'
),

candidates as (
    select
        pairs.item_key,
        {{ round_half_even('pairs.amount_minor::numeric * fee_schedules.pct_bps / 10000') }} + fee_schedules.fixed_minor as expected_fee_minor,
        fee_schedules.fee_schedule_id,
        row_number() over (
            partition by pairs.item_key
            order by
                (fee_schedules.network <> '*')::integer + (fee_schedules.market <> '*')::integer desc,
                fee_schedules.fee_schedule_id
        ) as specificity_rank
    from pairs
    inner join fee_schedules
        on pairs.processor = fee_schedules.processor
        and pairs.method_type = fee_schedules.method_type
        and fee_schedules.network in (pairs.network, '*')
        and fee_schedules.market in (pairs.market, '*')
        and fee_schedules.currency = pairs.currency
        and pairs.currency = pairs.fee_currency
        and pairs.value_date >= fee_schedules.valid_from
        and pairs.value_date < coalesce(fee_schedules.valid_to, 'infinity'::date)
),

final as (
    select item_key, expected_fee_minor, fee_schedule_id
    from candidates
    where specificity_rank = 1
)

select * from final
