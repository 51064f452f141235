-- A close that cannot be proven is published when two people sign, line by line, for exactly what does not add up.

-- What may be signed for: a balance or a total that somebody else states. That our own books agree with themselves
-- (entries balance, every event is posted once, every item has one outcome) nobody can sign away.
create table ops.excusable_checks (
    check_name text primary key,
    is_standing boolean not null,
    remedy text not null
);
comment on table ops.excusable_checks is 'One row per check of the proof whose failed lines two people may sign for; no other line is ever excused.';
comment on column ops.excusable_checks.is_standing is 'A balance, compared anew at every close: the exception lasts while the difference stays what was signed. Else a total of what one close took: it lasts until that date is closed again without it.';
insert into ops.excusable_checks (check_name, is_standing, remedy) values
    ('clearing', true, 'find what moved the account and is no break, or the break that moved nothing'),
    ('bank_balance', true, 'load the statement or the entries that are missing'),
    ('bank_continuity', false, 'load the statement that is missing between the two'),
    ('source_to_raw', false, 'load the batch again'),
    ('source_to_staging', false, 'repair the staging model'),
    ('source_to_items', false, 'repair the model that makes the items');

-- One person under two spellings is one person.
create function ops.person(name text) returns text
language sql immutable as $$
    select lower(regexp_replace(btrim(normalize(name, nfkc)), '\s+', ' ', 'g'))
$$;

create table ops.close_exceptions (
    exception_id bigint generated always as identity primary key,
    close_id bigint not null references ops.closes,
    check_name text not null references ops.excusable_checks,
    subject text not null,
    currency text not null,
    difference_count bigint not null,
    difference_minor numeric not null,
    reason text not null check (btrim(reason) <> ''),
    actor text not null check (ops.person(actor) <> ''),
    login text not null default session_user,
    as_of timestamptz not null default ops.as_of(),
    granted_at timestamptz not null default clock_timestamp(),
    check (difference_count <> 0 or difference_minor <> 0)
);
comment on table ops.close_exceptions is 'One row per person and failed line of a close''s proof that this person signs for. Two people make an exception.';
comment on column ops.close_exceptions.difference_count is 'Found less expected; a rebuilt close with another difference is not excused.';
comment on column ops.close_exceptions.login is 'The database role the person came as.';
create unique index one_signature_a_person on ops.close_exceptions
    (close_id, check_name, subject, currency, difference_count, difference_minor, ops.person(actor));
create trigger append_only before update or delete or truncate on ops.close_exceptions
    for each statement execute function ops.refuse_change();

alter table ops.closes add column exception_count integer not null default 0;
comment on column ops.closes.exception_count is 'Exceptions it was published with, those it carries among them: lines of the proof that do not hold.';

-- Every line of a close's proof that does not hold, and whether it is excused: signed for by two people for this very
-- close and difference, or standing since the parent close, which was excused with the same difference.
create function ops.failed_lines(close bigint) returns table (
    proof text, check_name text, subject text, currency text, expected_count bigint, actual_count bigint,
    expected_minor numeric, actual_minor numeric, difference_count bigint, difference_minor numeric, detail text,
    is_excusable boolean, remedy text, signed_by text[], is_carried boolean, is_excused boolean
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    parent bigint := (select c.parent_close_id from ops.closes c where c.close_id = close);
begin
    return query
    with lines as (
        select p.*, 'reconciliation.proof_items' as proof from reconciliation.proof_items p where p.close_id in (close, parent)
        union all
        select p.*, 'accounting.proof_clearing' from accounting.proof_clearing p where p.close_id in (close, parent)
    ),
    failed as (
        select lines.*, lines.actual_count - lines.expected_count as off_count, lines.actual_minor - lines.expected_minor as off_minor
        from lines
        where not lines.is_proven or lines.actual_count <> lines.expected_count or lines.actual_minor <> lines.expected_minor
    ),
    signed as (
        select f.check_name, f.subject, f.currency, array_agg(s.actor order by s.exception_id) as actors,
            count(distinct ops.person(s.actor)) as people
        from failed f
        join ops.close_exceptions s
            on s.close_id = f.close_id and s.check_name = f.check_name and s.subject = f.subject and s.currency = f.currency
            and s.difference_count = f.off_count and s.difference_minor = f.off_minor
        where f.close_id = close
        group by 1, 2, 3
    )
    select f.proof, f.check_name, f.subject, f.currency, f.expected_count, f.actual_count, f.expected_minor, f.actual_minor,
        f.off_count, f.off_minor, f.detail, e.check_name is not null, e.remedy, coalesce(signed.actors, '{}'),
        before.close_id is not null,
        e.check_name is not null and (coalesce(signed.people, 0) >= 2 or before.close_id is not null)
    from failed f
    left join ops.excusable_checks e on e.check_name = f.check_name and (f.off_count <> 0 or f.off_minor <> 0)
    left join signed on signed.check_name = f.check_name and signed.subject = f.subject and signed.currency = f.currency
    left join failed before
        on e.is_standing and before.close_id = parent and before.check_name = f.check_name and before.subject = f.subject
        and before.currency = f.currency and before.off_count = f.off_count and before.off_minor = f.off_minor
    where f.close_id = close
    order by 1 desc, 2, 3, 4;
end $$;

-- A signature is for what the close's proof says at that moment.
create function ops.refuse_signature() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    c ops.closes;
begin
    select * into c from ops.closes where close_id = new.close_id for share;
    if c.state is distinct from 'failed' then
        raise exception 'close % is %: people sign for a close whose proof failed', new.close_id, coalesce(c.state, 'unknown');
    end if;
    if not exists (select from ops.excusable_checks e where e.check_name = new.check_name) then
        raise exception 'nobody can sign for a line of %: repair what it names', new.check_name;
    end if;
    if not exists (
        select from ops.failed_lines(new.close_id) l
        where l.is_excusable and l.check_name = new.check_name and l.subject = new.subject and l.currency = new.currency
            and l.difference_count = new.difference_count and l.difference_minor = new.difference_minor
    ) then
        raise exception 'the proof of close % has no failed line % % % that is off by % items and % minor units',
            new.close_id, new.check_name, new.subject, new.currency, new.difference_count, new.difference_minor;
    end if;
    return new;
end $$;
create trigger is_what_failed before insert on ops.close_exceptions
    for each row execute function ops.refuse_signature();

-- The word 'proven' is not believed: both proofs must be there, and each line holds or is excused and carried as an
-- open break.
create or replace function ledger.refuse_unproven(close bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    c ops.closes;
    line record;
begin
    select * into c from ops.closes where close_id = close;
    if c.state <> 'proven' then
        raise exception 'close % of % is %, only a proven close is published', close, c.business_date, c.state;
    end if;
    if not exists (select from reconciliation.proof_items p where p.close_id = close)
        or not exists (select from accounting.proof_clearing p where p.close_id = close)
    then
        raise exception 'close % of % has no proof that holds', close, c.business_date;
    end if;
    select * into line from ops.failed_lines(close) l where not l.is_excused limit 1;
    if found then
        raise exception 'close % of % has no proof that holds: % % % is off by % items and % minor units, and is not excused',
            close, c.business_date, line.check_name, line.subject, line.currency, line.difference_count, line.difference_minor;
    end if;
    select * into line from ops.failed_lines(close) l
    where not exists (
        select from reconciliation.proof_exceptions e
        where e.close_id = close and e.check_name = l.check_name and e.subject = l.subject and e.currency = l.currency
            and e.difference_count = l.difference_count and e.difference_minor = l.difference_minor
    ) limit 1;
    if found then
        raise exception 'close % of % does not carry its exception % % %: build it again',
            close, c.business_date, line.check_name, line.subject, line.currency;
    end if;
    update ops.closes set exception_count = (select count(*) from reconciliation.proof_exceptions e where e.close_id = close)
    where close_id = close;
end $$;

revoke execute on function ops.failed_lines(bigint), ops.refuse_signature() from public;
grant execute on function ops.failed_lines(bigint) to loader, builder, controller;
grant select on ops.excusable_checks, ops.close_exceptions to loader, builder, controller;
grant insert (close_id, check_name, subject, currency, difference_count, difference_minor, reason, actor)
    on ops.close_exceptions to controller;
