-- What a batch of a snapshot remembers of its source, so that the next one knows whether to look at every row.
alter table ops.batches add column snapshot text;
comment on column ops.batches.snapshot is 'The source''s snapshot the rows were read in (pg_snapshot as text). Tables of one run share it.';
alter table ops.batches add column source_state jsonb;
comment on column ops.batches.source_state is 'Files, counters and columns of the source table at that time: another state than before is looked into by a sweep.';

create table ops.sweeps (
    batch_id bigint primary key references ops.batches,
    reason text not null,
    rows_compared bigint not null,
    buckets_differing integer not null,
    rows_missed bigint not null,
    rows_deleted bigint not null
);
comment on table ops.sweeps is 'One row per batch for which every row of the source was compared with the latest version in raw.';
comment on column ops.sweeps.rows_missed is 'Rows raw lacked or had otherwise, which no transaction horizon had shown.';
comment on column ops.sweeps.rows_deleted is 'Keys gone at the source; each has a tombstone in the batch.';
grant select, insert on ops.sweeps to loader;
grant select on ops.sweeps to builder;
