"""What ``edged`` does on the command line, beside ``run``: each verb, its words and its table.

``cli.py`` reads the arguments. Verbs that only read files (``verdict``, ``installed``, ``replay``)
need no daemon; the others ask one over its socket. Nothing of the daemon imports this.
"""
