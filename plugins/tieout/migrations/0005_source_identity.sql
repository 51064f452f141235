-- A horizon is a number of one server's transaction counter: it means nothing on another server, or on a restored one.
alter table ops.batches add column source_identity text;
comment on column ops.batches.source_identity is 'The server, timeline and database the horizon belongs to. Another identity than before, or none: the next batch takes every row.';
