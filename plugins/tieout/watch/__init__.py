"""Watching: questions about loads and closes become findings, incidents, and one message each.

    checks        freshness, volume, drift, totals, quarantine; of loads ``load_checks``, of closes ``close_checks``
    findings      what a check reports
    alerts        findings -> incidents -> outbox -> ``slack``
    operators     the Airflow face of it
"""
