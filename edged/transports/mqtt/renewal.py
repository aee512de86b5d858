"""Password and certificates as they are now: read again before each attempt after the first.

Decides what happens where they cannot be read: the attempt is made with those of before. Whoever
replaces such files does it when it pleases, and often just when the broker is restarted.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from edged.errors import EdgedError
from edged.transports.mqtt.connection import SessionOptions

log = logging.getLogger("edged.mqtt")


def renewed(options: SessionOptions) -> SessionOptions:
    """The options with what the files hold now; reads files, so not on the event loop."""
    if options.renew is None:
        return options
    try:
        password, tls = options.renew()
    except EdgedError as exc:
        log.warning("%s; what was read before is used", exc.message)
        return options
    return replace(options, password=password, tls=tls)
