-- Pairs the two sides, rule by rule in the order of the seed; what one pass decides, later ones leave alone.
{{ config(indexes=[{'columns': ['item_key'], 'unique': true}]) }}
{%- set passes = [1, 2] %}

with

items as (
    select *
    from {{ ref('int_items') }}
    where exclusion_reason is null and not is_future_dated and intrinsic_code is null
),

rules as (
    select *
    from {{ ref('match_rules') }}
    where valid_from <= {{ business_date() }} and coalesce(valid_to, 'infinity'::date) > {{ business_date() }}
),

{% for pass in passes %}
candidates_{{ pass }} as materialized (
    select
        items.item_key,
        items.side,
        items.amount_minor,
        items.currency,
        items.value_date,
        rules.rule_id,
        rules.pairing,
        rules.window_days,
        -- A pair may not bridge two clearing accounts: neither would come to zero.
        items.clearing_account || '|' || case rules.key_column when 'strong_key' then items.strong_key else items.weak_key end as key_value
    from items
    inner join rules on items.reconciliation = rules.reconciliation and rules.pass = {{ pass }}
    {%- for earlier in passes if earlier < pass %}
    left join decided_{{ earlier }} on items.item_key = decided_{{ earlier }}.item_key
    where decided_{{ earlier }}.item_key is null
    {%- endfor %}
),

groups_{{ pass }} as materialized (
    select
        rule_id,
        key_value,
        pairing,
        count(*) filter (where side = 'left') as left_count,
        count(*) filter (where side = 'right') as right_count,
        sum(amount_minor) filter (where side = 'left') as left_minor,
        sum(amount_minor) filter (where side = 'right') as right_minor,
        min(currency) = max(currency) as is_one_currency,
        max(value_date) - min(value_date) <= max(window_days) as is_in_window
    from candidates_{{ pass }}
    where key_value is not null
    group by rule_id, key_value, pairing
    having count(*) filter (where side = 'left') > 0 and count(*) filter (where side = 'right') > 0
),

-- One of ours against several of theirs that do not add up: the first that equals ours is its partner.
exact_partners_{{ pass }} as (
    select rule_id, key_value, item_key
    from (
        select
            candidates.rule_id,
            candidates.key_value,
            candidates.item_key,
            row_number() over (
                partition by candidates.rule_id, candidates.key_value
                order by candidates.value_date, candidates.item_key
            ) as partner_rank
        from candidates_{{ pass }} as candidates
        inner join groups_{{ pass }} as groups
            on candidates.rule_id = groups.rule_id and candidates.key_value = groups.key_value
        where groups.pairing = 'identity'
            and groups.is_one_currency
            and groups.left_count = 1
            and groups.right_count > 1
            and groups.left_minor <> groups.right_minor
            and candidates.side = 'right'
            and candidates.amount_minor = groups.left_minor
    ) as ranked
    where partner_rank = 1
),

decided_{{ pass }} as materialized (
    select
        candidates.item_key,
        candidates.rule_id,
        candidates.rule_id || ':' || md5(candidates.key_value) as group_id,
        case
            when groups.pairing = 'identity' and exact_partners.item_key is null then 'paired'
            when groups.pairing = 'identity' and (candidates.side = 'left' or candidates.item_key = exact_partners.item_key) then 'paired'
            when groups.pairing = 'identity' then 'left_over'
            when groups.left_count = 1 and groups.right_count = 1 then 'paired'
            else 'ambiguous'
        end as decision
    from candidates_{{ pass }} as candidates
    inner join groups_{{ pass }} as groups
        on candidates.rule_id = groups.rule_id and candidates.key_value = groups.key_value
    left join exact_partners_{{ pass }} as exact_partners
        on candidates.rule_id = exact_partners.rule_id and candidates.key_value = exact_partners.key_value
    where groups.pairing = 'identity' or groups.is_in_window
),

{% endfor %}
decided as (
    {% for pass in passes %}
    select * from decided_{{ pass }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
),

final as (
    select
        decided.item_key,
        decided.rule_id,
        decided.group_id,
        decided.decision,
        items.reconciliation,
        items.side,
        items.amount_minor,
        items.currency,
        items.clearing_account
    from decided
    inner join items on decided.item_key = items.item_key
)

select * from final
