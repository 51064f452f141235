-- What a load noticed and somebody should know: columns nobody declared, tables left out, rows that vanished, card numbers.
create table ops.load_notes (
    note_id bigint generated always as identity primary key,
    source text not null,
    table_name text not null,
    interval_end timestamptz,
    batch_id bigint references ops.batches,
    file_id bigint references ops.files,
    kind text not null,
    severity text not null check (severity in ('warn', 'fail')),
    message text not null,
    observed jsonb not null default '{}',
    as_of timestamptz not null,
    noted_at timestamptz not null default clock_timestamp()
);
comment on table ops.load_notes is 'One row per unusual thing a load saw in one table, or in one file. Committed with the load.';
create index on ops.load_notes (source, table_name, note_id);
grant select, insert on ops.load_notes to loader;
grant select on ops.load_notes to builder;
