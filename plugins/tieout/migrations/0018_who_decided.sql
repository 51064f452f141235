-- Who wrote a decision down, and when, is the database's to say: a controller enters what was decided and by whom.
alter table ops.break_actions
    add column login text,
    alter column as_of set default ops.as_of();
-- Of decisions from before nobody knows.
alter table ops.break_actions alter column login set default session_user;
comment on column ops.break_actions.actor is 'Who decided, as the one who wrote it down says.';
comment on column ops.break_actions.login is 'The database role it was written down as; null of decisions from before this was kept.';
revoke insert on ops.break_actions from controller;
grant insert (book, kind, item_keys, owner, reason, actor) on ops.break_actions to controller;

-- A decision without effect shall not stop the book: no balance depends on one.
insert into ops.excusable_checks (check_name, is_standing, remedy) values
    ('actions_take_effect', true, 'repair the model that left its items where they were');
