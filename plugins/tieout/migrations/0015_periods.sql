-- Locked periods: nothing is posted, published or closed again in one. One person locks, two people unlock.
create table ops.period_changes (
    change_id bigint generated always as identity primary key,
    book text not null,
    first_date date not null,
    last_date date not null,
    change text not null check (change in ('lock', 'unlock')),
    reason text not null check (btrim(reason) <> ''),
    actor text not null check (ops.person(actor) <> ''),
    login text not null default session_user,
    as_of timestamptz not null default ops.as_of(),
    changed_at timestamptz not null default clock_timestamp(),
    check (first_date <= last_date)
);
comment on table ops.period_changes is 'One row per person who locks a period of a book, or signs for unlocking it. Never changed.';
create trigger append_only before update or delete or truncate on ops.period_changes
    for each statement execute function ops.refuse_change();

create view ops.periods as
    with locks as (
        select distinct on (book, first_date, last_date) *
        from ops.period_changes where change = 'lock'
        order by book, first_date, last_date, change_id desc
    )
    select locks.book, locks.first_date, locks.last_date,
        case when count(distinct ops.person(u.actor)) < 2 then 'locked' else 'open' end as state,
        locks.actor, locks.reason, locks.changed_at,
        coalesce(array_agg(u.actor order by u.change_id) filter (where u.actor is not null), '{}') as unlock_signed_by
    from locks
    left join ops.period_changes u
        on u.change = 'unlock' and u.book = locks.book and u.first_date = locks.first_date
        and u.last_date = locks.last_date and u.change_id > locks.change_id
    group by locks.change_id, locks.book, locks.first_date, locks.last_date, locks.actor, locks.reason, locks.changed_at;
comment on view ops.periods is 'One row per period that was ever locked: by whom, why, whether it still is, and who signed for unlocking it.';

-- Whoever locks waits for whoever publishes, and the other way round.
create function ops.refuse_period_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    found_period record;
    unfinished record;
begin
    perform pg_advisory_xact_lock(hashtext('tieout periods ' || new.book));
    select * into found_period from ops.periods p
    where p.book = new.book and p.state = 'locked' and p.first_date <= new.last_date and p.last_date >= new.first_date
    order by p.first_date limit 1;
    if new.change = 'unlock' then
        if found_period is null or (found_period.first_date, found_period.last_date) <> (new.first_date, new.last_date) then
            raise exception 'book % has no locked period % to %', new.book, new.first_date, new.last_date;
        end if;
        if ops.person(new.actor) = any (select ops.person(s) from unnest(found_period.unlock_signed_by) s) then
            raise exception '% has signed for unlocking % to % already: it takes a second person', new.actor, new.first_date, new.last_date;
        end if;
        return new;
    end if;
    if found_period is not null then
        raise exception 'book % is locked from % to % already', new.book, found_period.first_date, found_period.last_date;
    end if;
    if not exists (
        select from ops.published p where p.book = new.book and p.business_date between new.first_date and new.last_date
    ) then
        raise exception 'book % has no published close from % to %: there is nothing to lock', new.book, new.first_date, new.last_date;
    end if;
    select c.close_id, c.business_date, c.state into unfinished from ops.closes c
    where c.book = new.book and c.business_date <= new.last_date and c.state in ('running', 'failed', 'proven') limit 1;
    if unfinished is not null then
        raise exception 'close % of % is %: publish it, or give it up, before the period to % is locked',
            unfinished.close_id, unfinished.business_date, unfinished.state, new.last_date;
    end if;
    return new;
end $$;
create trigger fits_the_books before insert on ops.period_changes
    for each row execute function ops.refuse_period_change();

-- At commit, so that a period which was locked meanwhile counts.
create function ops.refuse_locked_date() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    pointer ops.published := coalesce(new, old);
    locked record;
begin
    perform pg_advisory_xact_lock_shared(hashtext('tieout periods ' || pointer.book));
    select * into locked from ops.periods p
    where p.book = pointer.book and p.state = 'locked' and pointer.business_date between p.first_date and p.last_date;
    if found then
        raise exception '% lies in the locked period % to % of book %: what readers see of it stays',
            pointer.business_date, locked.first_date, locked.last_date, pointer.book;
    end if;
    return null;
end $$;
create constraint trigger period_is_open after insert or update or delete on ops.published
    deferrable initially deferred for each row execute function ops.refuse_locked_date();

-- The date a line is posted on counts, and not its value date: what belongs to a locked period and comes late is booked
-- in the open one.
create function ledger.refuse_locked() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    wrong record;
begin
    if not exists (select from ops.periods p where p.state = 'locked') then
        return null;
    end if;
    select n.entry_key, n.business_date, p.first_date, p.last_date, p.book into wrong
    from new_lines n
    join ops.closes c on c.close_id = n.close_id
    join ops.periods p on p.book = c.book and p.state = 'locked' and n.business_date between p.first_date and p.last_date
    limit 1;
    if found then
        raise exception 'journal entry % would be posted on %, in the locked period % to % of book %',
            wrong.entry_key, wrong.business_date, wrong.first_date, wrong.last_date, wrong.book;
    end if;
    return null;
end $$;
create trigger period_is_open after insert on ledger.journal
    referencing new table as new_lines
    for each statement execute function ledger.refuse_locked();

-- A re-close goes on to the last published date: a period that ends on its first date or later is in its way.
create function ops.refuse_locked_reclosing() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    locked record;
begin
    perform pg_advisory_xact_lock_shared(hashtext('tieout periods ' || new.book));
    select * into locked from ops.periods p
    where p.book = new.book and p.state = 'locked' and p.last_date >= new.business_date
    order by p.first_date limit 1;
    if found then
        raise exception '% cannot be closed again: the chain would cross the locked period % to % of book %',
            new.business_date, locked.first_date, locked.last_date, new.book;
    end if;
    return new;
end $$;
create trigger period_is_open before insert on ops.reclosings
    for each row execute function ops.refuse_locked_reclosing();

revoke execute on function ops.refuse_period_change(), ops.refuse_locked_date(), ops.refuse_locked_reclosing(),
    ledger.refuse_locked() from public;
grant select on ops.periods to loader, builder, publisher, controller;
grant select on ops.period_changes to loader, controller;
grant insert (book, first_date, last_date, change, reason, actor) on ops.period_changes to controller;
