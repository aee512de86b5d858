"""The durable outbox: what must reach a broker and has not yet, on disk.

A leaf: it knows entries, files and ages, and nothing of MQTT. Its parts, from below: ``age`` (how
old is it), ``entry`` (a record's bytes), ``disk`` (file system calls), ``segment`` (one file),
``marks`` (what was sent), ``answered`` (which requests), ``segment_log`` (all of them), ``outbox``
(the thread and its queues). Beside it ``states`` (the newest state of each key) and
``state_keeper`` (its thread).
"""
