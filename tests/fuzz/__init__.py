"""Hostile bytes for every decoder that is written in Python, found by atheris (libFuzzer).

    fuzz_record.py    Scanner: decode, verify, find; reseal        (walstore/wal/record.py)
    fuzz_segment.py   header, seal and name of a segment           (walstore/wal/segment.py)
    fuzz_meta.py      both copies, and the watermark               (walstore/wal/meta.py)
    fuzz_recovery.py  examine_tail on a whole segment file         (walstore/wal/recovery.py)
    fuzz_message.py   a message of another node                    (walstore/replication/message.py)
    fix.py            makes checksums right, so that inputs get past them
    one.py            the process that fuzzes one of them
    run.py            starts such processes and counts what they tried

Each has `one_input(data)`, which raises when a property is broken: nothing but the documented
errors, and what is taken encodes to the same bytes. `corpus/` holds inputs to start from.

    python -m tests.fuzz 1000000                  # so many inputs for each decoder; or 60s
    python -m tests.fuzz.one message FILE         # one input again
"""
