"""Tieout: every payment tied out, from the payment system's ledger to the processor to the bank.

The way of a row, module by module:

    sources      the registry of source tables, read from the dbt source YAML
    source_declaration  writes one for review: from ``source_catalogue`` by ``source_suggestions``
    batches      manifest and control totals of a load, taken alike at the source and in ``raw``
    snapshot     extracts the payment system: one snapshot, verified batches in ``raw``; ``source_identity`` tells
                 servers apart, ``failpoints`` stop it where tests say, ``verify`` proves any batch again
    files        one reader a file format; ``money`` holds the exact arithmetic they share
    landing      files a folder receives: identity, proof, quarantine, batches in ``raw``
    close        batches -> dbt -> proof -> publish; ``dbt_runner`` runs the dbt project in process
    checks       freshness, volume, drift, control totals, and of closes (``close_checks``): ``findings``
    alerts       findings -> incidents -> outbox -> ``slack``
    pages        what the Airflow UI shows of it; ``overview`` is the controller's table
    operators    the Airflow face of all that; no other module here imports Airflow

Around it: ``cli`` (the ``tieout`` command), ``reading`` (what a file holds, loading nothing), ``business_days``,
``postgres`` (embedded server, migrations), ``sandbox`` (a payments world with planted, labelled trouble) and ``local``
with ``airflow_local`` and ``walkthrough`` (everything on one machine, day by day).
"""
