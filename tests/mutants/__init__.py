"""Faults put into the project's SQL on purpose, one at a time, and which tests notice: ``make mutants``.

``catalogue``: the faults. ``__main__``: applies each to a copy of the dbt project and prints the table.
"""
