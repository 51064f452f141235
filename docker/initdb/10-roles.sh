#!/usr/bin/env bash
# Roles and databases of a new server; the postgres image runs this once, on an empty volume.
set -euo pipefail

for role in airflow_db loader builder publisher reader controller; do
    variable="TIEOUT_${role^^}_PASSWORD"
    : "${!variable:?the password of this database role must be set}"
    # psql quotes what it is handed as variables; a password is never part of the text of a statement here.
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
        --set role="${role%_db}" --set password="${!variable}" <<'SQL'
create role :"role" login password :'password';
SQL
done

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
create database airflow owner airflow;
create database warehouse;
revoke connect, temporary on database airflow, warehouse from public;
grant connect, temporary on database warehouse to loader, builder, publisher, reader, controller;
SQL
