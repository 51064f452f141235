"""Everything on one machine: the embedded server (``machine``), Airflow beside it, and the days of a walkthrough."""
