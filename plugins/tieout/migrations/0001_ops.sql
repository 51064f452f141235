-- Operational state: what was loaded, what was closed, what went wrong.
create schema raw;
create schema ops;

create table ops.files (
    file_id bigint generated always as identity primary key,
    sha256 text not null unique,
    name text not null,
    uri text not null,
    size_bytes bigint not null,
    format text,
    status text not null check (status in ('loaded', 'quarantined')),
    reason text,
    origin text,
    origin_account text,
    content_date date,
    statement_count integer not null default 0,
    entry_count integer not null default 0,
    seen_at timestamptz not null,
    check ((status = 'quarantined') = (reason is not null))
);
comment on table ops.files is 'One row per distinct content (sha256) seen in the landing.';

-- What a file says it is (a batch of a processor, a statement of an account): the same document is never loaded twice.
create table ops.documents (
    kind text not null,
    identity text not null,
    file_id bigint not null references ops.files,
    primary key (kind, identity)
);

create table ops.batches (
    batch_id bigint generated always as identity primary key,
    source text not null,
    table_name text not null,
    interval_start timestamptz,
    interval_end timestamptz,
    file_id bigint references ops.files,
    row_count bigint not null,
    key_hash numeric not null,
    horizon xid8,
    content_until timestamptz,
    as_of timestamptz not null,
    loaded_at timestamptz not null default clock_timestamp(),
    unique (source, table_name, interval_start, interval_end),
    unique (table_name, file_id),
    check ((file_id is null) = (interval_end is not null))
);
comment on table ops.batches is 'One row per committed load of one raw table: by interval for a snapshot, by file for the landing.';
comment on column ops.batches.horizon is 'Oldest transaction still open at the source when the snapshot was taken: the next one starts there.';

create table ops.batch_totals (
    batch_id bigint not null references ops.batches,
    measure text not null,
    currency text not null,
    row_count bigint not null,
    sum_minor numeric not null,
    primary key (batch_id, measure, currency)
);
comment on table ops.batch_totals is 'Control totals taken at the source (in its snapshot, or by the reader of the file), one row per amount column and currency.';

create table ops.closes (
    close_id bigint generated always as identity primary key,
    book text not null,
    business_date date not null,
    generation integer not null,
    parent_close_id bigint references ops.closes,
    state text not null check (state in ('running', 'failed', 'proven', 'published', 'superseded')),
    fencing_token bigint not null default 1,
    builder text,
    rules_digest text not null,
    opened_at timestamptz not null default clock_timestamp(),
    as_of timestamptz not null,
    published_at timestamptz,
    failure text,
    unique (book, business_date, generation),
    check (parent_close_id < close_id)
);
create unique index one_open_close_per_book on ops.closes (book) where state in ('running', 'failed', 'proven');

comment on column ops.closes.builder is 'The process that builds now; a later one takes its place and the earlier can change nothing more.';

-- Holds the close for the transaction of one model, or refuses a builder that was overtaken.
create function ops.hold_close(close bigint, builder_name text) returns boolean
language plpgsql as $$
begin
    perform from ops.closes c
    where c.close_id = close and c.builder = builder_name and c.state in ('running', 'proven')
    for share;
    if not found then
        raise exception 'close % is not being built by this run any more: it was taken over, given up or published', close;
    end if;
    return true;
end $$;

create table ops.close_batches (
    close_id bigint not null references ops.closes,
    batch_id bigint not null references ops.batches,
    primary key (close_id, batch_id)
);

create table ops.published (
    book text not null,
    business_date date not null,
    close_id bigint not null references ops.closes,
    primary key (book, business_date)
);
comment on table ops.published is 'The pointer readers follow: which close stands for a business date.';

-- A close and the closes it stands on, itself first.
create function ops.close_chain(close bigint) returns table (close_id bigint)
language sql stable as $$
    with recursive chain (close_id, parent_close_id) as (
        select c.close_id, c.parent_close_id from ops.closes c where c.close_id = close
        union all
        select c.close_id, c.parent_close_id from ops.closes c join chain on c.close_id = chain.parent_close_id
    )
    select chain.close_id from chain
$$;

-- The clock of checks: a sandbox sets it, production leaves it empty and gets the database's clock.
create table ops.clock (
    only_row boolean primary key default true check (only_row),
    as_of timestamptz not null
);
create function ops.as_of() returns timestamptz
language sql stable as $$ select coalesce((select as_of from ops.clock), now()) $$;

create table ops.findings (
    finding_id bigint generated always as identity primary key,
    check_name text not null,
    subject text not null,
    severity text not null check (severity in ('ok', 'warn', 'fail')),
    message text not null,
    observed jsonb not null default '{}',
    as_of timestamptz not null,
    found_at timestamptz not null default clock_timestamp()
);
create index on ops.findings (check_name, subject, finding_id);

create table ops.incidents (
    incident_id bigint generated always as identity primary key,
    check_name text not null,
    subject text not null,
    severity text not null check (severity in ('warn', 'fail')),
    message text not null,
    owner text not null,
    opened_at timestamptz not null,
    last_seen_at timestamptz not null,
    resolved_at timestamptz,
    finding_id bigint not null references ops.findings
);
create unique index one_open_incident on ops.incidents (check_name, subject) where resolved_at is null;

create table ops.outbox (
    message_id bigint generated always as identity primary key,
    incident_id bigint not null references ops.incidents,
    kind text not null check (kind in ('opened', 'escalated', 'resolved')),
    severity text not null,
    body text not null,
    enqueued_at timestamptz not null default clock_timestamp(),
    attempts integer not null default 0,
    last_error text,
    sent_at timestamptz,
    unique (incident_id, kind, severity)
);

create table ops.build_results (
    close_id bigint not null references ops.closes,
    step text not null,
    node text not null,
    resource_type text not null,
    status text not null,
    seconds numeric not null,
    message text not null,
    built_at timestamptz not null default clock_timestamp(),
    primary key (close_id, step, node)
);
comment on table ops.build_results is 'How each model and test of a close ended, as dbt reported it.';
