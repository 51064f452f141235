"""The landing folder: files that others send, each loaded once, proven, or set aside whole with a reason.

    load          the run over the folder; one transaction a file; ``spool`` holds its rows on their way to COPY,
                  ``binary`` puts them together as the server reads them fastest
    arrivals      which files are there, whole and at rest; ``archives`` are unpacked within limits
    documents     a batch or statement delivered again is a version; rows that are gone get tombstones
    continuity    statements of an account follow each other; ``accounts`` are those the seeds declare
    register      what is known of each file; ``quarantine`` shows it and releases what is held
"""
