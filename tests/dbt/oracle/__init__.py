"""The matcher a second time, in plain Python: slow, obvious, and written from the rules' words, not from their SQL.

Those words are DECISIONS.md and the descriptions in ``seeds/_seeds.yml``; the seeds' rows are the rules themselves.
Where the oracle and the SQL disagree, one of them has misread the words, or the words leave the case open.

``facts``: what a close looks at and how an item ends. ``rules``: the seeds. ``matcher``: the oracle itself.
``worlds``: small random worlds. ``warehouse``: the project's own SQL over many worlds at once, and what differs.
"""
