"""Whether a request may come from a web page; programs that are meant to ask here send none of it.

A browser on this device reaches loopback for any page that it shows. It says so in ``Origin`` or
``Sec-Fetch-Site``; a page whose name was pointed at 127.0.0.1 meanwhile (DNS rebinding) seems to
ask its own server, and is told by the name in ``Host``. Pure.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Mapping


def page_trouble(headers: Mapping[str, str], *, is_loopback: bool) -> str:
    """Why a request is refused; empty when it is not.

    Args:
        headers: by name in lower case.
        is_loopback: whether it came to a port of this machine alone, that anybody here may ask.
    """
    if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
        return "a request from a web page is not allowed on this socket"
    if is_loopback and not is_local_host(headers.get("host", "localhost")):
        return (
            f"the Host header says {headers['host'][:64]!r}: ask this port as localhost or by its "
            "address"
        )
    return ""


@functools.lru_cache(maxsize=64)
def is_local_host(host: str) -> bool:
    """Whether a Host header names this machine alone."""
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
