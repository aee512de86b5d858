"""A configuration's life in the daemon: built beside what serves, swapped in, watched, taken back.

From below: ``documents``, ``envelope`` and ``history`` (what is on disk), ``trusted`` and
``candidate`` (bundles verified), ``table`` (what serves), ``house`` (what it works on),
``fallback`` and ``breaker`` (when something fails), ``proving`` and ``returns`` (the way back),
``reload`` (the whole way) and ``desired`` (what comes over MQTT).
"""
