-- Publishing a close: the journal is booked and the pointer flipped in one transaction, or nothing happens.
create function ledger.publish_close(close bigint, token bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    c ops.closes;
    line_total bigint;
    digest text;
    previous text;
begin
    select * into c from ops.closes where close_id = close for update;
    if c.close_id is null then
        raise exception 'there is no close %', close;
    end if;
    if c.state = 'published' then
        return 0;
    end if;
    if c.fencing_token <> token then
        raise exception 'close % was taken over by another run (fencing token % is now %)', close, token, c.fencing_token;
    end if;
    if c.state <> 'proven' then
        raise exception 'close % of % is %, only a proven close is published', close, c.business_date, c.state;
    end if;
    if exists (select from ops.published p where p.book = c.book and p.business_date >= c.business_date) then
        raise exception 'book % already stands at a later or the same business date as %', c.book, c.business_date;
    end if;
    -- The word 'proven' is not believed: both proofs must be there and hold.
    if not exists (select from reconciliation.proof_items p where p.close_id = close)
        or not exists (select from accounting.proof_clearing p where p.close_id = close)
        or exists (select from reconciliation.proof_items p where p.close_id = close and not p.is_proven)
        or exists (select from accounting.proof_clearing p where p.close_id = close and not p.is_proven)
    then
        raise exception 'close % of % has no proof that holds', close, c.business_date;
    end if;

    insert into ledger.journal
        (close_id, entry_key, leg_no, event_type, business_date, value_date, account, currency, amount_minor)
    select p.close_id, p.entry_key, p.leg_no, p.event_type, p.business_date, p.value_date, p.account, p.currency, p.amount_minor
    from accounting.journal_proposed p
    where p.close_id = close
    order by p.entry_key, p.leg_no;
    get diagnostics line_total = row_count;

    digest := ledger.lines_digest(close);
    select s.seal into previous from ledger.seals s order by s.seal_no desc limit 1;
    previous := coalesce(previous, '');
    insert into ledger.seals (close_id, line_count, lines_digest, previous_seal, seal)
    values (close, line_total, digest, previous,
            encode(sha256(convert_to(previous || '|' || close || '|' || digest, 'UTF8')), 'hex'));

    insert into ops.published (book, business_date, close_id) values (c.book, c.business_date, close);
    update ops.closes set state = 'published', published_at = clock_timestamp() where close_id = close;
    return line_total;
end $$;
