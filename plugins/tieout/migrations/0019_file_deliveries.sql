-- A content may be delivered again: sent anew after another file took the place of its documents.
alter table ops.files
    drop constraint files_sha256_key,
    add column delivery integer not null default 1 check (delivery >= 1),
    add column modified_at timestamptz,
    add constraint files_delivery_key unique (sha256, delivery);
comment on table ops.files is 'One row per delivery of a content (sha256) to the landing; copies of a content that stands are none.';
comment on column ops.files.delivery is '1; more for a content that was sent again after its documents had come otherwise.';
comment on column ops.files.modified_at is 'When it, or its archive, was put into the landing, by the landing''s own clock; null for files of earlier releases.';
-- Who releases a file is told whether it stands, which its batches say.
grant select on ops.batches to controller;
