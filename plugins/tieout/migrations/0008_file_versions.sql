-- Documents in versions, files that are held, and what people decide about them.
alter table ops.files
    drop constraint files_status_check,
    drop constraint files_check,
    add constraint files_status_check check (status in ('loaded', 'quarantined', 'held')),
    add constraint files_reason_check check ((status = 'loaded') = (reason is null)),
    add column record_header text,
    add column observed jsonb not null default '{}';
comment on column ops.files.status is 'loaded; quarantined: refused for the reason; held: whole in itself, and loaded as soon as the reason is gone.';
comment on column ops.files.record_header is 'Header of a CSV as it stood in the file: names the fields of raw''s record texts.';
comment on column ops.files.observed is 'What was counted in the file and, of one that was not loaded, where its reason stands.';
grant update (format, status, reason, origin, origin_account, content_date, statement_count, entry_count, record_header, observed)
    on ops.files to loader;

create function ops.refuse_change() returns trigger
language plpgsql as $$
begin
    raise exception '%.% does not change: no % of what is written', tg_table_schema, tg_table_name, lower(tg_op)
        using errcode = 'insufficient_privilege';
end $$;
create trigger loaded_stays before update on ops.files
    for each row when (old.status = 'loaded') execute function ops.refuse_change();

create table ops.file_actions (
    action_id bigint generated always as identity primary key,
    file_id bigint not null references ops.files,
    action text not null check (action in ('released', 'loaded', 'held', 'refused')),
    reason text not null,
    actor text not null,
    as_of timestamptz not null,
    acted_at timestamptz not null default clock_timestamp()
);
comment on table ops.file_actions is 'What happened to a file that was not loaded at first sight: who released it and why, and what the ingest made of it. A release that no later action follows is still to be acted on.';
create index on ops.file_actions (file_id, action_id);
create trigger append_only before update or delete or truncate on ops.file_actions
    for each statement execute function ops.refuse_change();
grant select, insert on ops.file_actions to loader, controller;
grant select on ops.files, ops.documents, ops.clock to controller;

-- A document may come again in other bytes: each delivery is a version, and the newest stands.
alter table ops.documents
    drop constraint documents_pkey,
    add column version integer not null default 1 check (version >= 1),
    add column document_no integer,
    add column superseded_by bigint references ops.files,
    add primary key (kind, identity, version);
alter table ops.documents alter column version drop default;
comment on column ops.documents.document_no is 'Number of the document in its file, which raw''s rows carry; null for one that was loaded before versions were kept.';
comment on column ops.documents.superseded_by is 'The file that brought the next version; null for the version that stands.';
create unique index one_standing_version on ops.documents (kind, identity) where superseded_by is null;
create index on ops.documents (file_id);
grant update (superseded_by) on ops.documents to loader;

-- Records were JSON made from the line; they are the line itself now. Tables made later have the column as declared.
do $$
declare
    name text;
begin
    foreach name in array array['raw.settlement_lines', 'raw.bank_entries'] loop
        if to_regclass(name) is not null then
            execute format('alter table %s alter column record type text using record::text', name);
        end if;
    end loop;
end $$;
