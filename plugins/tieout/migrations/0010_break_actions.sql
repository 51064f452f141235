-- What people decide about items that are open, or were matched: written down, and taken by the next close.
create table ops.break_actions (
    action_id bigint generated always as identity primary key,
    book text not null,
    kind text not null check (kind in ('link', 'unlink', 'force', 'exclude', 'assign', 'comment')),
    item_keys text[] not null check (cardinality(item_keys) > 0 and array_position(item_keys, null) is null),
    owner text check ((kind = 'assign') = (owner is not null) and owner <> ''),
    reason text not null check (reason <> ''),
    actor text not null check (actor <> ''),
    as_of timestamptz not null,
    acted_at timestamptz not null default clock_timestamp()
);
comment on table ops.break_actions is 'One row per decision of a person about items. Never changed: a later action takes the place of an earlier one.';
comment on column ops.break_actions.item_keys is 'The items it is about, by our keys, which are the same at every close.';
comment on column ops.break_actions.reason is 'Why; of a comment its text.';
create index on ops.break_actions using gin (item_keys);
create trigger append_only before update or delete or truncate on ops.break_actions
    for each statement execute function ops.refuse_change();

create table ops.close_actions (
    close_id bigint not null references ops.closes,
    action_id bigint not null references ops.break_actions,
    primary key (close_id, action_id)
);
comment on table ops.close_actions is 'One row per action a close takes, fixed when it opened, as its batches are.';

grant select, insert on ops.break_actions to controller;
grant select on ops.break_actions, ops.close_actions to loader, builder, controller;
grant insert, delete on ops.close_actions to loader;

-- A break is shown down to the raw record of each side.
grant usage on schema published to controller;
grant usage on schema raw to controller;
grant select on all tables in schema raw to controller;
alter default privileges in schema raw grant select on tables to controller;
