"""A soak: steady load of all kinds for minutes or hours, watched, accounted for, and judged.

`make soak MINUTES=60`. It goes like this (run.py):

plan      when what happens, and for how long things are kept: an hour in small
processes a server of its own, and two real worker processes
handlers  what the workers run, and how that is put on record: the evidence
load      the kinds of jobs, and who enqueues them
holds     the snapshot that opens and closes, and the long writing transaction
ledger    what was enqueued, held against the evidence (uniques, occurrences: two parts of it)
samples   what is measured while it runs: rates, latency, sizes, dead tuples, memory
accounts  the books in the end: the ledger's numbers against eram's tables
verdict   what was to hold, and whether anything grows
plots     pictures of the samples, drawn in an environment of their own
"""
