-- Pairs the two sides, rule by rule in the order of the seed; what one pass decides, later ones leave alone. What people
-- put together comes first, then corrections: all that is still open under a reference, once it comes to zero with them,
-- or else the corrections, once they come to zero by themselves.
-- Nobody can estimate how many items a pass leaves: the planner takes them for a handful and would compare each with each.
{{ config(
    indexes=[{'columns': ['item_key'], 'unique': true}],
    pre_hook='set local enable_nestloop to off',
) }}
{%- set passes = [1, 2, 3] %}
{%- set signed = "case items.side when 'left' then items.amount_minor else -items.amount_minor end" %}
{%- set is_correction = 'items.correction_reason is not null' %}
{%- set carried_on = 'item_key, reconciliation, side, amount_minor, currency, value_date, calendar, clearing_account, strong_key, weak_key, pool_key, is_unlinked' %}

with

items as (
    select
        item_key, reconciliation, side, amount_minor, currency, value_date, calendar, clearing_account, intrinsic_code,
        correction_reason, manual_rule_id, manual_group_id, is_unlinked,
        case when is_strong_key_barred then null else strong_key end as strong_key,
        case when is_weak_key_barred then null else weak_key end as weak_key,
        case when is_unlinked then null else pool_key end as pool_key
    from {{ ref('int_items') }}
    where exclusion_reason is null and not is_future_dated
),

days as (
    select * from {{ ref('business_calendar') }}
),

rules as (
    select *
    from {{ ref('match_rules') }} as rules
    where {{ holds_on('rules', business_date()) }}
),

-- A bank entry that names several payouts pays them together: what each of them is known by leads to the one key.
named_together as (
    select distinct reconciliation, clearing_account, strong_key as merged_key
    from items
    where side = 'right' and strong_key like '%+%'
),

merged as (
    select
        reconciliation,
        clearing_account,
        named_key as strong_key,
        min(merged_key) as merged_key
    from named_together
    cross join unnest({{ named_keys('merged_key') }}) as named_key
    group by reconciliation, clearing_account, named_key
),

correction_keys as (
    select distinct reconciliation, clearing_account, currency, strong_key
    from items
    where correction_reason is not null and strong_key is not null and manual_rule_id is null
),

corrected as (
    select
        items.reconciliation, items.clearing_account, items.currency, items.strong_key,
        sum({{ signed }}) = 0 and count(*) > 1 and bool_or(items.is_unlinked is not true) as takes_all,
        sum({{ signed }}) filter (where {{ is_correction }}) = 0 and count(*) filter (where {{ is_correction }}) > 1
        and bool_or(items.is_unlinked is not true) filter (where {{ is_correction }}) as takes_corrections
    from items
    inner join correction_keys
        on items.reconciliation = correction_keys.reconciliation
        and items.clearing_account = correction_keys.clearing_account
        and items.currency = correction_keys.currency
        and items.strong_key = correction_keys.strong_key
    where items.manual_rule_id is null
    group by items.reconciliation, items.clearing_account, items.currency, items.strong_key
),

-- What carries its own break code meets nobody, unless people or a correction settle it.
judged_0 as (
    select
        items.item_key, items.reconciliation, items.side, items.amount_minor, items.currency, items.value_date, items.calendar,
        items.clearing_account, coalesce(merged.merged_key, items.strong_key) as strong_key, items.weak_key, items.pool_key,
        items.is_unlinked,
        coalesce(items.manual_rule_id, 'corrected') as rule_id,
        coalesce(
            items.manual_group_id,
            'corrected:' || md5(corrected.clearing_account || '|' || corrected.currency || '|' || corrected.strong_key)
        ) as group_id,
        case when coalesce(items.manual_group_id, corrected.strong_key) is not null then 'paired' end as decision
    from items
    left join merged
        on items.reconciliation = merged.reconciliation
        and items.clearing_account = merged.clearing_account
        and items.strong_key = merged.strong_key
        -- What was taken apart is not led to what it was taken from.
        and (items.side = 'left' or items.is_unlinked is not true)
    left join corrected
        on items.reconciliation = corrected.reconciliation
        and items.clearing_account = corrected.clearing_account
        and items.currency = corrected.currency
        and items.strong_key = corrected.strong_key
        and items.manual_rule_id is null
        and (corrected.takes_all or corrected.takes_corrections and {{ is_correction }})
    where items.intrinsic_code is null or corrected.strong_key is not null or items.manual_rule_id is not null
),

undecided_0 as (
    select {{ carried_on }} from judged_0 where decision is null
),

{% for pass in passes -%}
-- Pass {{ pass }}. A pair may not bridge two clearing accounts: neither would come to zero.
keyed_{{ pass }} as (
    select
        undecided_{{ pass - 1 }}.*,
        rules.rule_id,
        rules.pairing,
        rules.key_column,
        rules.names_event,
        rules.window_business_days,
        rules.rule_id || '|' || clearing_account || '|'
        || case rules.key_column when 'strong_key' then strong_key when 'weak_key' then weak_key when 'pool_key' then pool_key end as key_value
    from undecided_{{ pass - 1 }}
    left join rules
        on undecided_{{ pass - 1 }}.reconciliation = rules.reconciliation
        and rules.pass = {{ pass }}
),

totals_{{ pass }} as (
    select
        key_value,
        count(*) filter (where side = 'left') as left_count,
        count(*) filter (where side = 'right') as right_count,
        sum(amount_minor) filter (where side = 'left') as left_minor,
        sum(amount_minor) filter (where side = 'right') as right_minor,
        min(currency) = max(currency) as is_one_currency,
        bool_or(is_unlinked is not true) as has_others
    from keyed_{{ pass }}
    where key_value is not null
    group by key_value
),

-- A reference may be reported again. One of ours against several of theirs that do not add up: the first that equals ours
-- is its partner. Of a total, where each of theirs alone comes to it.
repeated_{{ pass }} as (
    select keyed_{{ pass }}.key_value
    from keyed_{{ pass }}
    inner join totals_{{ pass }} as totals on keyed_{{ pass }}.key_value = totals.key_value
    where totals.is_one_currency
        and totals.left_minor <> totals.right_minor
        and (
            keyed_{{ pass }}.pairing = 'total'
            or keyed_{{ pass }}.names_event and totals.left_count = 1 and totals.right_count > 1
        )
    group by keyed_{{ pass }}.key_value
    having case min(keyed_{{ pass }}.pairing)
        when 'total' then bool_and(keyed_{{ pass }}.side = 'left' or keyed_{{ pass }}.amount_minor = totals.left_minor)
        else bool_or(keyed_{{ pass }}.side = 'right' and keyed_{{ pass }}.amount_minor = totals.left_minor)
    end
),

twins_{{ pass }} as (
    select
        keyed_{{ pass }}.item_key as twin_key,
        row_number() over (partition by key_value, side, amount_minor order by value_date, item_key) as twin_rank
    from keyed_{{ pass }}
    inner join repeated_{{ pass }} using (key_value)
),

-- Under a key that only one may share with one, every two inside the window are candidates for each other: in business days
-- of our side's calendar, in all days where there is none.
candidates_{{ pass }} as (
    select
        ours.item_key as left_key,
        theirs.item_key as right_key,
        count(*) over (partition by ours.item_key) = 1 and count(*) over (partition by theirs.item_key) = 1 as is_only_choice
    from keyed_{{ pass }} as ours
    inner join keyed_{{ pass }} as theirs
        on ours.key_value = theirs.key_value
        and ours.currency = theirs.currency
    left join days as our_day on ours.calendar = our_day.calendar and ours.value_date = our_day.calendar_date
    left join days as their_day on ours.calendar = their_day.calendar and theirs.value_date = their_day.calendar_date
    where abs(coalesce(our_day.business_day_no - their_day.business_day_no, ours.value_date - theirs.value_date)) <= ours.window_business_days
        and ours.pairing = 'unique' and ours.side = 'left' and theirs.side = 'right'
),

chosen_{{ pass }} as (
    select left_key as chosen_key, min(left_key) as pair_key, bool_and(is_only_choice) as is_only_choice
    from candidates_{{ pass }}
    group by left_key
    union all
    select right_key, min(left_key), bool_and(is_only_choice)
    from candidates_{{ pass }}
    group by right_key
),

judged_{{ pass }} as (
    select
        {{ carried_on }},
        rule_id,
        rule_id || ':' || md5(keyed_{{ pass }}.key_value || coalesce('|' || pair_key, '')) as group_id,
        case
            -- A side without items comes to nothing: what is taken back among our own agrees with that. Of a pool it would
            -- hide payouts that never came, and of nothing but what people took apart it would undo that.
            when pairing = 'group_total' then case
                when is_one_currency and left_count + right_count > 1 and coalesce(left_minor, 0) = coalesce(right_minor, 0)
                    and (left_count * right_count > 0 or key_column <> 'pool_key' and has_others) then 'paired'
            end
            when left_count = 0 or right_count = 0 then null
            when pairing = 'unique' then case when is_only_choice then 'paired' when pair_key is not null then 'ambiguous' end
            when twin_rank is null or side = 'left' then 'paired'
            when amount_minor = left_minor and twin_rank = 1 then 'paired'
            else 'left_over'
        end as decision
    from keyed_{{ pass }}
    inner join totals_{{ pass }} as totals on keyed_{{ pass }}.key_value = totals.key_value
    left join twins_{{ pass }} as twins on keyed_{{ pass }}.item_key = twins.twin_key
    left join chosen_{{ pass }} as chosen on keyed_{{ pass }}.item_key = chosen.chosen_key
),

undecided_{{ pass }} as (
    select {{ carried_on }} from keyed_{{ pass }} where key_value is null
    union all
    select {{ carried_on }} from judged_{{ pass }} where decision is null
),

{% endfor -%}
final as (
    {% for pass in [0] + passes -%}
    select item_key, rule_id, group_id, decision, reconciliation, side, amount_minor, currency, clearing_account
    from judged_{{ pass }}
    where decision is not null
    {{ 'union all' if not loop.last }}
    {% endfor -%}
)

select * from final
