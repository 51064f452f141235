"""Tieout: every payment tied out, from the payment system's ledger to the processor to the bank.

The way of a row, module by module:

    sources      the registry of source tables, read from the dbt source YAML
    snapshot     extracts the payment system: one snapshot, verified batches in ``raw``
    files        one reader a file format; ``money`` holds the exact arithmetic they share
    landing      files a folder receives: identity, proof, quarantine, batches in ``raw``
    close        batches -> dbt -> proof -> publish
    checks       freshness, volume, drift, control totals, breaks: findings
    alerts       findings -> incidents -> outbox -> Slack
    operators    the Airflow face of all that; no other module here imports Airflow

Around it: ``postgres`` (embedded server, migrations), ``sandbox`` (a payments world with planted,
labelled trouble), ``local`` (everything on one machine) and ``cli`` (the ``tieout`` command).
"""
