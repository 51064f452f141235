-- Fees of settlement lines have a control total of their own. Batches that were sealed before it had none get it from
-- raw: what they brought cannot be compared with its source any more, but nothing may change in it from here on.
do $$
begin
    if to_regclass('raw.settlement_lines') is not null then
        insert into ops.batch_totals (batch_id, measure, currency, row_count, sum_minor)
        select lines.batch_id, 'fee_minor', lines.net_currency, count(*), sum(lines.fee_minor)
        from raw.settlement_lines as lines
        where not exists (
            select from ops.batch_totals as totals where totals.batch_id = lines.batch_id and totals.measure = 'fee_minor'
        )
        group by lines.batch_id, lines.net_currency;
    end if;
end $$;
