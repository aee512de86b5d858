"""What the daemon says about itself, as plain documents; every door shows the same ones.

``status`` is all of it, with ``hosted`` for the worker processes; ``probes`` is what scrapers and
load balancers ask for, ``oip`` what the Open Inference Protocol says of the server and its models.
"""
