"""What a process asks of the operating system, and of the interpreter it runs in.

Of files ``atomic`` (replaced whole) and ``shm`` (memory of two processes); of time on processors
``cores``, ``timeslice``, ``patience`` (waiting awake or asleep) and ``garbage``; of other processes
``child`` (what they get of ours) and ``supervisor`` (the service manager).
"""
