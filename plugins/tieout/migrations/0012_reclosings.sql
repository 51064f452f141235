-- A past date is closed again with every date after it: all of them are built unseen and published at once, and the
-- journal takes back and books anew what differs.
create table ops.reclosings (
    reclosing_id bigint generated always as identity primary key,
    book text not null,
    business_date date not null,
    reason text not null check (reason <> ''),
    actor text not null check (actor <> ''),
    state text not null default 'building' check (state in ('building', 'published', 'given up')),
    fencing_token bigint not null default 1,
    opened_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    check ((state = 'building') = (ended_at is null))
);
create unique index one_open_reclosing_per_book on ops.reclosings (book) where state = 'building';
comment on table ops.reclosings is 'One row per decision to close a past business date again, with every date after it.';
comment on column ops.reclosings.business_date is 'The date that was reopened; the chain goes on to the last published one.';

alter table ops.closes
    add column reclosing_id bigint references ops.reclosings,
    add column superseded_at timestamptz;
comment on column ops.closes.reclosing_id is 'The re-close that built it; null for the first close of a date.';
comment on column ops.closes.superseded_at is 'When another generation took its place. A close that was given up has none, and no published_at.';
create index on ops.closes (reclosing_id) where reclosing_id is not null;
drop index ops.one_open_close_per_book;
create unique index one_open_close_per_book on ops.closes (book)
    where state in ('running', 'failed', 'proven') and reclosing_id is null;

grant select, insert, update on ops.reclosings to loader;
grant select on ops.reclosings to builder, publisher, controller;

-- Marts as they were known: every generation that was ever published. Deploying makes a view a mart, beside `published`.
create schema known;
grant usage, create on schema known to builder;
grant usage on schema known to reader, loader, controller;

-- What became of the breaks between any two closes that were ever published, such as two generations of one date.
create function ops.break_changes(earlier_close bigint, later_close bigint) returns table (
    break_id text, currency text, reconciliation text, change text, earlier_break_code text, break_code text,
    earlier_clearing_minor bigint, clearing_minor bigint, earlier_exposure_minor bigint, exposure_minor bigint,
    first_seen_business_date date
)
language plpgsql stable as $$
begin
    return query
    with earlier as (
        select * from known.break_register b where b.close_id = earlier_close
    ),
    later as (
        select * from known.break_register b where b.close_id = later_close
    )
    select coalesce(later.break_id, earlier.break_id), coalesce(later.currency, earlier.currency),
        coalesce(later.reconciliation, earlier.reconciliation),
        case when earlier.break_id is null then 'opened' when later.break_id is null then 'closed' else 'changed' end,
        earlier.break_code, later.break_code, earlier.clearing_minor, later.clearing_minor,
        earlier.exposure_minor, later.exposure_minor,
        coalesce(later.first_seen_business_date, earlier.first_seen_business_date)
    from earlier
    full join later on later.break_id = earlier.break_id and later.currency = earlier.currency
    where (earlier.break_code, earlier.left_minor, earlier.right_minor, earlier.exposure_minor, earlier.item_count)
        is distinct from (later.break_code, later.left_minor, later.right_minor, later.exposure_minor, later.item_count)
    order by 4, 3, 1, 2;
end $$;
revoke execute on function ops.break_changes(bigint, bigint) from public;
grant execute on function ops.break_changes(bigint, bigint) to loader, controller;

-- Odd postings of an entry book it, even ones take back the posting before.
alter table ledger.journal
    add column posting_no integer not null default 1 check (posting_no >= 1),
    drop constraint journal_entry_key_leg_no_key,
    add constraint journal_entry_key_posting_no_leg_no_key unique (entry_key, posting_no, leg_no);
comment on column ledger.journal.posting_no is '1 when an entry is booked, 2 when a re-close takes it back, 3 when it is booked again, and so on.';
create index taken_back on ledger.journal (entry_key) where posting_no % 2 = 0;

create or replace function ledger.refuse_unbalanced() returns trigger
language plpgsql as $$
declare
    found record;
begin
    select entry_key, currency, sum(amount_minor) as difference_minor into found
    from new_lines group by entry_key, posting_no, currency having sum(amount_minor) <> 0 limit 1;
    if found is not null then
        raise exception 'journal entry % does not balance: debits exceed credits by % minor units of %',
            found.entry_key, found.difference_minor, found.currency using errcode = 'check_violation';
    end if;
    return null;
end $$;

-- A first posting's text is what it was before there were others, so that the seals of older closes stay good.
create or replace function ledger.lines_digest(close bigint) returns text
language sql stable as $$
    select encode(sha256(convert_to(coalesce(string_agg(
        md5(concat_ws('|', entry_key, leg_no, event_type, business_date, value_date, account, currency, amount_minor,
            'posting ' || nullif(posting_no, 1))),
        '' order by entry_key, posting_no, leg_no), ''), 'UTF8')), 'hex')
    from ledger.journal where close_id = close
$$;

-- The word 'proven' is not believed: both proofs must be there and hold.
create function ledger.refuse_unproven(close bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    c ops.closes;
begin
    select * into c from ops.closes where close_id = close;
    if c.state <> 'proven' then
        raise exception 'close % of % is %, only a proven close is published', close, c.business_date, c.state;
    end if;
    if not exists (select from reconciliation.proof_items p where p.close_id = close)
        or not exists (select from accounting.proof_clearing p where p.close_id = close)
        or exists (select from reconciliation.proof_items p where p.close_id = close and not p.is_proven)
        or exists (select from accounting.proof_clearing p where p.close_id = close and not p.is_proven)
    then
        raise exception 'close % of % has no proof that holds', close, c.business_date;
    end if;
end $$;

create function ledger.seal(close bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    digest text := ledger.lines_digest(close);
    previous text := coalesce((select s.seal from ledger.seals s order by s.seal_no desc limit 1), '');
begin
    insert into ledger.seals (close_id, line_count, lines_digest, previous_seal, seal)
    values (close, (select count(*) from ledger.journal j where j.close_id = close), digest, previous,
            encode(sha256(convert_to(previous || '|' || close || '|' || digest, 'UTF8')), 'hex'));
end $$;

-- Books what a close proposes and what does not stand for its date yet. An entry that stands for another date is
-- refused by the journal's key: no event is booked twice.
create function ledger.book(close bigint) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    line_total bigint;
    c ops.closes;
begin
    select * into c from ops.closes where close_id = close;
    insert into ledger.journal
        (close_id, entry_key, posting_no, leg_no, event_type, business_date, value_date, account, currency, amount_minor)
    select p.close_id, p.entry_key, coalesce(taken_back.posting_no, 0) + 1, p.leg_no, p.event_type, p.business_date,
        p.value_date, p.account, p.currency, p.amount_minor
    from accounting.journal_proposed p
    left join (
        select j.entry_key, max(j.posting_no) as posting_no from ledger.journal j where j.posting_no % 2 = 0 group by j.entry_key
    ) taken_back on taken_back.entry_key = p.entry_key
    where p.close_id = close
        and (
            c.reclosing_id is null
            or not exists (
                select
                from ledger.journal standing
                join ops.closes earlier on earlier.close_id = standing.close_id
                where standing.entry_key = p.entry_key
                    and standing.posting_no = coalesce(taken_back.posting_no, 0) + 1
                    and earlier.book = c.book and earlier.business_date = c.business_date
            )
        )
    order by p.entry_key, p.leg_no;
    get diagnostics line_total = row_count;
    return line_total;
end $$;

create or replace function ledger.publish_close(close bigint, token bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    c ops.closes;
    line_total bigint;
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
    if c.reclosing_id is not null then
        raise exception 'close % of % is part of re-close %, which is published as a whole', close, c.business_date, c.reclosing_id;
    end if;
    if c.state <> 'proven' then
        raise exception 'close % of % is %, only a proven close is published', close, c.business_date, c.state;
    end if;
    if exists (select from ops.published p where p.book = c.book and p.business_date >= c.business_date) then
        raise exception 'book % already stands at a later or the same business date as %', c.book, c.business_date;
    end if;
    if exists (select from ops.reclosings r where r.book = c.book and r.state = 'building') then
        raise exception 'close % of % has to wait: a re-close of book % is being built', close, c.business_date, c.book;
    end if;
    if c.parent_close_id is distinct from
        (select p.close_id from ops.published p where p.book = c.book order by p.business_date desc limit 1)
    then
        raise exception 'close % of % stands on close %, which is not the last published one: open it again',
            close, c.business_date, coalesce(c.parent_close_id, 0);
    end if;
    perform ledger.refuse_unproven(close);

    line_total := ledger.book(close);
    perform ledger.seal(close);
    insert into ops.published (book, business_date, close_id) values (c.book, c.business_date, close);
    update ops.closes set state = 'published', published_at = clock_timestamp() where close_id = close;
    return line_total;
end $$;

-- Publishing a re-close: the whole chain in one transaction, or nothing happens. Entry by entry, what stands for a date
-- and is not proposed for it word for word is taken back, then what is missing is booked. Line by line it is the
-- difference between the generations, and each new close books its own date's part.
create function ledger.publish_reclosing(reclosing bigint, token bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    r ops.reclosings;
    member record;
    wrong record;
    added bigint;
    line_total bigint := 0;
    moment timestamptz;
begin
    select * into r from ops.reclosings where reclosing_id = reclosing for update;
    if r.reclosing_id is null then
        raise exception 'there is no re-close %', reclosing;
    end if;
    if r.state = 'published' then
        return 0;
    end if;
    if r.fencing_token <> token then
        raise exception 're-close % was taken over by another run (fencing token % is now %)', reclosing, token, r.fencing_token;
    end if;
    if r.state <> 'building' then
        raise exception 're-close % is %', reclosing, r.state;
    end if;
    perform from ops.closes c where c.reclosing_id = reclosing order by c.close_id for update;

    -- One close for every published date from the first on, each on the one before it.
    select coalesce(p.business_date, c.business_date) as business_date, c.close_id, c.parent_close_id into wrong
    from (
        select p.business_date, lag(p.close_id) over (order by p.business_date) as close_before
        from ops.published p where p.book = r.book
    ) p
    full join (
        select c.business_date, c.close_id, c.parent_close_id, lag(c.close_id) over (order by c.business_date) as close_before
        from ops.closes c where c.reclosing_id = reclosing
    ) c on c.business_date = p.business_date
    where coalesce(p.business_date, c.business_date) >= r.business_date
        and (p.business_date is null or c.close_id is null
            or c.parent_close_id is distinct from coalesce(c.close_before, p.close_before))
    order by 1 limit 1;
    if found then
        raise exception 're-close % is no chain at %: give it up and reopen %', reclosing, wrong.business_date, r.business_date;
    end if;
    for member in select c.close_id from ops.closes c where c.reclosing_id = reclosing order by c.business_date loop
        perform ledger.refuse_unproven(member.close_id);
    end loop;

    with members as (
        select c.close_id, c.book, c.business_date from ops.closes c where c.reclosing_id = reclosing
    ),
    standing as (
        select members.close_id as member_id, j.*
        from members
        join ops.closes earlier on earlier.book = members.book and earlier.business_date = members.business_date
        join ledger.journal j on j.close_id = earlier.close_id
        where j.posting_no % 2 = 1
            and not exists (
                select from ledger.journal back where back.entry_key = j.entry_key and back.posting_no = j.posting_no + 1
            )
    ),
    changed as (
        select coalesce(standing.member_id, proposed.close_id) as member_id, coalesce(standing.entry_key, proposed.entry_key) as entry_key
        from standing
        full join (
            select p.* from accounting.journal_proposed p join members on members.close_id = p.close_id
        ) proposed
            on proposed.close_id = standing.member_id and proposed.entry_key = standing.entry_key
            and proposed.leg_no = standing.leg_no
        group by 1, 2
        having bool_or(
            (standing.event_type, standing.value_date, standing.account, standing.currency, standing.amount_minor)
            is distinct from (proposed.event_type, proposed.value_date, proposed.account, proposed.currency, proposed.amount_minor)
        )
    )
    insert into ledger.journal
        (close_id, entry_key, posting_no, leg_no, event_type, business_date, value_date, account, currency, amount_minor)
    select s.member_id, s.entry_key, s.posting_no + 1, s.leg_no, s.event_type, s.business_date, s.value_date, s.account,
        s.currency, -s.amount_minor
    from standing s
    join changed on changed.member_id = s.member_id and changed.entry_key = s.entry_key
    order by s.business_date, s.entry_key, s.leg_no;
    get diagnostics line_total = row_count;

    for member in select c.close_id from ops.closes c where c.reclosing_id = reclosing order by c.business_date loop
        added := ledger.book(member.close_id);
        line_total := line_total + added;
    end loop;

    -- What is booked for each date, by all its generations, is what the new one says it moved.
    select moved.business_date, moved.account, moved.currency, sum(moved.amount_minor) as difference_minor into wrong
    from (
        select j.business_date, j.account, j.currency, j.amount_minor
        from ops.closes c
        join ops.closes earlier on earlier.book = c.book and earlier.business_date = c.business_date
        join ledger.journal j on j.close_id = earlier.close_id
        where c.reclosing_id = reclosing
        union all
        select t.business_date, t.account, t.currency, t.opening_minor - t.balance_minor
        from ops.closes c
        join accounting.trial_balance t on t.close_id = c.close_id
        where c.reclosing_id = reclosing
    ) moved
    group by 1, 2, 3
    having sum(moved.amount_minor) <> 0
    order by 1, 2, 3 limit 1;
    if found then
        raise exception 'the journal of % would not be its trial balance: % is off by % minor units of %',
            wrong.business_date, wrong.account, wrong.difference_minor, wrong.currency using errcode = 'check_violation';
    end if;

    moment := clock_timestamp();
    for member in select c.close_id from ops.closes c where c.reclosing_id = reclosing order by c.business_date loop
        perform ledger.seal(member.close_id);
    end loop;
    update ops.closes old set state = 'superseded', superseded_at = moment
    from ops.published p, ops.closes c
    where c.reclosing_id = reclosing and p.book = c.book and p.business_date = c.business_date and old.close_id = p.close_id;
    update ops.published p set close_id = c.close_id
    from ops.closes c
    where c.reclosing_id = reclosing and p.book = c.book and p.business_date = c.business_date;
    update ops.closes set state = 'published', published_at = moment where reclosing_id = reclosing;
    update ops.reclosings set state = 'published', ended_at = moment where reclosing_id = reclosing;
    return line_total;
end $$;

revoke execute on function ledger.refuse_unproven(bigint), ledger.seal(bigint), ledger.book(bigint),
    ledger.publish_reclosing(bigint, bigint) from public;
grant execute on function ledger.publish_reclosing(bigint, bigint) to publisher;
