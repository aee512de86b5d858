"""Which hosts may be asked, and which of them is shown what we log in with.

Pure. A source decides nothing here: where it may send us is the operator's word.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from edged.errors import BundleError

_PORTS = {"http": 80, "https": 443}
_URL_CAP = 8192
"""What servers take; signed addresses of object stores have a thousand characters."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what a login belongs to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Of an address.

        Raises:
            BundleError: it is none that can be asked.
        """
        shown = url[:100]
        if len(url) > _URL_CAP or not url.isascii() or any(c <= " " or c == "\x7f" for c in url):
            raise BundleError(f"no address that can be asked: {shown!r}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise BundleError(f"no address that can be asked: {shown!r}") from exc
        if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or "\\" in url:
            raise BundleError(f"no address that can be asked: {shown!r}")
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])


@dataclass(frozen=True, slots=True)
class Reach:
    """Where requests to one source may go.

    Args:
        home: the source's own origin.
        hosts: other hosts, as names or ``*.example``; never shown a login.
    """

    home: Origin
    hosts: tuple[str, ...] = ()

    def follow(self, url: str, location: str) -> str:
        """Where a redirect leads.

        Raises:
            BundleError: to a host that the operator did not name, or out of TLS.
        """
        if any(c <= " " or c == "\x7f" for c in location):  # joining would drop some of them
            raise BundleError(f"no address that can be asked: {location[:100]!r}")
        try:
            target = urljoin(url, location)
        except ValueError as exc:
            raise BundleError(f"no address that can be asked: {location[:100]!r}") from exc
        origin = Origin.of(target)
        if origin == self.home:
            return target
        if origin.scheme != "https":
            raise BundleError(
                f"the source sends us on to {origin.host} without TLS; only https is followed"
            )
        if origin.host != self.home.host and not self._is_named(origin.host):
            raise BundleError(
                f"the source sends us on to {origin.host}, which its `hosts` does not name; add it "
                "there if that is meant"
            )
        return target

    def _is_named(self, host: str) -> bool:
        for pattern in self.hosts:
            name = pattern.lower()
            if host == name or (name.startswith("*.") and host.endswith(name[1:])):
                return True
        return False
