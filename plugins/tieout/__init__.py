"""Tieout: every payment tied out, from the payment system's ledger to the processor to the bank.

The way of a row, part by part; each folder's docstring is the map of it:

    sources      the registry of source tables, read from the dbt source YAML
    batches      manifest and control totals of a load, taken alike at the source and in ``raw``; ``load_notes`` keeps
                 what a load saw that somebody should know
    extraction/  the payment system: one snapshot, verified batches in ``raw``
    files/       one reader a file format; ``money`` holds the exact arithmetic they share, ``card_numbers`` hides cards
    landing/     files a folder receives: identity, versions, proof, quarantine, batches in ``raw``
    close        batches -> dbt -> proof -> publish; ``dbt_runner`` runs the dbt project in process
                 ``reclose`` closes a past date again, ``signoff`` has two people publish what cannot be proven,
                 ``periods`` locks months
    breaks       open breaks, and what people decide about them for the next close
    watch/       checks -> findings -> incidents -> outbox -> Slack
    pages        what the Airflow UI shows of it; ``overview`` is the controller's table
    operators    the Airflow face of all that, and ``watch.operators``; no other module here imports Airflow

Around it: ``cli``, ``cli_breaks`` and ``cli_close`` (the ``tieout`` command; ``terminal`` is what they share),
``reading`` (what a file holds, loading nothing), ``business_days``, ``failpoints`` (where tests break loads),
``postgres`` (embedded server, migrations), ``local/`` (everything on one machine, day by day) and ``sandbox/`` (a
payments world with planted, labelled trouble).
"""
