-- Rows of files that were loaded before lines were versions of one another get a key that no other row has: without one
-- they would all be versions of the same thing. Their documents are refused when they come again, so nothing else would
-- ever bear the key. Fees of settlement lines have a control total of their own now: batches that were sealed without
-- one get it from raw. What they brought cannot be compared with its source any more, but nothing may change from here.
do $$
declare
    place record;
begin
    for place in
        select format('raw.%I', name) as table_name, number
        from (values ('settlement_lines', 'line_no'), ('bank_entries', 'line_no'), ('bank_statements', 'statement_no')) as t (name, number)
        where to_regclass('raw.' || name) is not null
    loop
        execute format('alter table %s add column if not exists row_key text', place.table_name);
        execute format(
            'update %s set row_key = md5(file_id || '':'' || %I) where row_key is null', place.table_name, place.number
        );
    end loop;
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
