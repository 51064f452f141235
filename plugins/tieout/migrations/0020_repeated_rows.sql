-- Which of the rows under one key a row is: raw is append-only, and who says it knows the version before.
create table ops.repeated_rows (
    batch_id bigint not null references ops.batches,
    row_no integer not null,
    occurrence_no integer not null check (occurrence_no >= 1),
    primary key (batch_id, row_no)
);
comment on table ops.repeated_rows is 'One row per row of a document that came again whose key the document, or a version before it, repeats.';
comment on column ops.repeated_rows.row_no is 'line_no of the row in its batch, negative for a tombstone.';
comment on column ops.repeated_rows.occurrence_no is 'Which of the rows under its key it is in every version; where nothing is said, their order in the file says it.';
grant select, insert on ops.repeated_rows to loader;
grant select on ops.repeated_rows to builder;
