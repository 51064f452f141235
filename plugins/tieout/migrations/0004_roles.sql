-- Who may do what. Roles belong to the server, so they are made only where they are missing; logins are the operator's.
do $$
declare
    name text;
begin
    foreach name in array array['loader', 'builder', 'publisher', 'reader', 'controller'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I nologin', name);
        end if;
    end loop;
    execute format('grant create on database %I to builder', current_database());
end $$;

create schema published;
grant usage, create on schema published to builder;
grant usage on schema published to reader, loader;

grant usage on schema raw to loader, builder;
alter default privileges in schema raw grant select, insert on tables to loader;
alter default privileges in schema raw grant select on tables to builder;

grant usage on schema ops to loader, builder, publisher, controller;
grant select, insert on ops.files, ops.documents, ops.batches, ops.batch_totals to loader;
grant update (row_count, key_hash, horizon, content_until) on ops.batches to loader;
grant select, insert, update on ops.closes, ops.findings, ops.incidents, ops.outbox, ops.clock to loader;
grant select, insert, delete on ops.close_batches to loader;
grant select on ops.published, ops.build_results to loader;
grant select on ops.files, ops.documents, ops.batches, ops.batch_totals, ops.closes, ops.close_batches, ops.published to builder;
grant update (state, failure, builder) on ops.closes to builder;
revoke execute on function ops.hold_close(bigint, text) from public;
grant execute on function ops.hold_close(bigint, text) to builder;
grant select, insert, delete on ops.build_results to builder;
grant select on ops.closes, ops.published to publisher, controller;

grant usage on schema ledger to loader, builder, publisher, reader;
grant select on all tables in schema ledger to loader, builder, reader;
revoke execute on all functions in schema ledger from public;
grant execute on function ledger.publish_close(bigint, bigint) to publisher;
grant execute on function ledger.lines_digest(bigint) to loader, builder;
revoke all on schema public from public;
grant usage on schema public to loader, builder, publisher, reader, controller;
