"""A network of the daemon's own, whose cables can be pulled and whose packets can be dropped.

A namespace with a pair of interfaces for each broker, as root. Elsewhere the taps hold the bytes
back themselves: ``NoNamespace``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from tests.chaos.tap import Tap


def run(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True, timeout=20).returncode == 0


class Namespace:
    """``with Namespace(2) as network:``; the daemon is started with ``network.prefix``.

    Args:
        links: how many interfaces.
    """

    def __init__(self, links: int) -> None:
        self.name = f"edged-chaos-{os.getpid()}"
        self.prefix = ("ip", "netns", "exec", self.name)
        self._inside = [f"ec{os.getpid() % 100000}i{number}" for number in range(links)]
        self._outside = [f"ec{os.getpid() % 100000}o{number}" for number in range(links)]
        self._net = os.getpid() % 250
        self.ways = ["cable"]

    def address(self, link: int) -> str:
        """Ours, where the tap listens."""
        return f"10.211.{self._net}.{4 * link + 1}"

    def attach(self, taps: Sequence[Tap]) -> None:
        """Nothing to do: packets pass by the kernel."""

    def cut(self, link: int, way: str) -> None:
        """``cable``: the link is down; ``drop``: packets of both directions vanish."""
        if way == "cable":
            assert run("ip", "link", "set", self._outside[link], "down")
            return
        for chain, flag in (("INPUT", "-i"), ("OUTPUT", "-o")):
            assert self._filter("-I", chain, flag, self._inside[link])

    def heal(self, link: int, way: str) -> None:
        """As before."""
        if way == "cable":
            assert run("ip", "link", "set", self._outside[link], "up")
            return
        for chain, flag in (("INPUT", "-i"), ("OUTPUT", "-o")):
            assert self._filter("-D", chain, flag, self._inside[link])

    def _filter(self, act: str, chain: str, flag: str, interface: str) -> bool:
        return run(*self.prefix, "iptables", act, chain, flag, interface, "-j", "DROP")

    def __enter__(self) -> Namespace:  # noqa: PYI034 - typing.Self is 3.11
        assert run("ip", "netns", "add", self.name)
        try:
            assert run(*self.prefix, "ip", "link", "set", "lo", "up")
            for link, (inside, outside) in enumerate(zip(self._inside, self._outside, strict=True)):
                other = f"10.211.{self._net}.{4 * link + 2}/30"
                assert run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside,
                           "netns", self.name)  # fmt: skip
                assert run("ip", "addr", "add", f"{self.address(link)}/30", "dev", outside)
                assert run("ip", "link", "set", outside, "up")
                assert run(*self.prefix, "ip", "addr", "add", other, "dev", inside)
                assert run(*self.prefix, "ip", "link", "set", inside, "up")
            if shutil.which("iptables") and self._filter("-I", "INPUT", "-i", "none0"):
                self.ways.append("drop")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        run("ip", "netns", "del", self.name)


class NoNamespace:
    """The taps hold back what passes; the kernel still says that it has arrived."""

    def __init__(self) -> None:
        self.name = ""
        self.prefix: tuple[str, ...] = ()
        self.ways = ["hold"]
        self._taps: Sequence[Tap] = ()

    def address(self, link: int) -> str:
        return "127.0.0.1"

    def attach(self, taps: Sequence[Tap]) -> None:
        self._taps = taps

    def cut(self, link: int, way: str) -> None:
        self._taps[link].hold()

    def heal(self, link: int, way: str) -> None:
        self._taps[link].release()

    def __enter__(self) -> NoNamespace:  # noqa: PYI034 - typing.Self is 3.11
        return self

    def __exit__(self, *_: object) -> None:
        pass


Network = Namespace | NoNamespace


def can_make_namespaces() -> bool:
    """Whether this machine lets us."""
    name = f"edged-chaos-{os.getpid()}-try"
    if os.geteuid() != 0 or shutil.which("ip") is None or not run("ip", "netns", "add", name):
        return False
    link = f"ec{os.getpid() % 100000}t"
    works = run("ip", "link", "add", link, "type", "veth", "peer", "name", f"{link}p")
    run("ip", "link", "del", link)
    return run("ip", "netns", "del", name) and works


def network(links: int) -> Network:
    """The best there is here."""
    return Namespace(links) if can_make_namespaces() else NoNamespace()
