-- The journal: append-only, balanced per entry and currency, written by the publish function alone.
create schema ledger;

create table ledger.journal (
    line_id bigint generated always as identity primary key,
    close_id bigint not null references ops.closes,
    entry_key text not null,
    leg_no integer not null,
    event_type text not null,
    business_date date not null,
    value_date date not null,
    account text not null,
    currency text not null,
    amount_minor bigint not null check (amount_minor <> 0),
    unique (entry_key, leg_no)
);
comment on table ledger.journal is 'One row per leg of a booked entry; amount_minor is positive for a debit, negative for a credit.';
create index on ledger.journal (close_id);
create index on ledger.journal (account, currency);

create function ledger.refuse_unbalanced() returns trigger
language plpgsql as $$
declare
    found record;
begin
    select entry_key, currency, sum(amount_minor) as difference_minor into found
    from new_lines group by entry_key, currency having sum(amount_minor) <> 0 limit 1;
    if found is not null then
        raise exception 'journal entry % does not balance: debits exceed credits by % minor units of %',
            found.entry_key, found.difference_minor, found.currency using errcode = 'check_violation';
    end if;
    return null;
end $$;
create trigger balanced after insert on ledger.journal
    referencing new table as new_lines
    for each statement execute function ledger.refuse_unbalanced();

create function ledger.refuse_change() returns trigger
language plpgsql as $$
begin
    raise exception 'the journal is append-only: post a reversal instead of a % on %', lower(tg_op), tg_table_name
        using errcode = 'insufficient_privilege';
end $$;
create trigger append_only before update or delete or truncate on ledger.journal
    for each statement execute function ledger.refuse_change();

-- Each published close seals its lines into a chain of digests.
create table ledger.seals (
    close_id bigint primary key references ops.closes,
    seal_no bigint generated always as identity unique,
    line_count bigint not null,
    lines_digest text not null,
    previous_seal text not null,
    seal text not null
);
create trigger append_only before update or delete or truncate on ledger.seals
    for each statement execute function ledger.refuse_change();

create function ledger.lines_digest(close bigint) returns text
language sql stable as $$
    select encode(sha256(convert_to(coalesce(string_agg(
        md5(concat_ws('|', entry_key, leg_no, event_type, business_date, value_date, account, currency, amount_minor)),
        '' order by entry_key, leg_no), ''), 'UTF8')), 'hex')
    from ledger.journal where close_id = close
$$;
