"""Memory by name is used only while its client may, whatever it registered before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.access.gate import Access, Gate
from edged.access.memory import guarded_memory
from edged.access.policy import Peer, Policy, build_rule
from edged.access.visit import Visit
from edged.config.access import RuleConfig
from edged.config.listen import SharedMemoryConfig
from edged.errors import DeniedError
from edged.protocol.oip_shared import Memory, Place, Region
from edged.transports.named_memory import NamedMemory

ME = os.getuid()
REGION, PLACE = Region("r", "m", 0, 8), Place("r", 0, 4)


def access(*verbs: str) -> Access:
    """What our own user may do; not as the daemon's own, who may do everything."""
    rule = RuleConfig(users=(str(ME),), allow=verbs)  # type: ignore[arg-type]
    return Access(Policy((build_rule(rule, "rules[0]", int, int),)))


@pytest.fixture
def gate() -> Gate:
    return Gate(access("infer", "shared_memory"))


@pytest.fixture
def visit(gate: Gate) -> Iterator[Visit]:
    made = gate.enter(Peer("http", ME), lambda: None)
    yield made
    made.leave()


@pytest.fixture
def memory(tmp_path: Path, visit: Visit) -> Memory:
    (tmp_path / "m").write_bytes(bytes(8))
    named = NamedMemory(str(tmp_path))
    named.allow(SharedMemoryConfig())
    found = guarded_memory(named.of(ME), visit)
    assert found is not None
    return found


def test_where_it_is_off_or_nobody_guards(visit: Visit, memory: Memory) -> None:
    assert guarded_memory(None, visit) is None
    assert guarded_memory(memory, None) is memory


def test_all_of_it_while_it_is_allowed(memory: Memory) -> None:
    memory.register(REGION)
    memory.write(PLACE, b"abcd")
    assert bytes(memory.read(PLACE)) == b"abcd"
    assert memory.status(None) == [REGION]
    memory.unregister("r")


def test_a_right_that_is_taken_is_gone_for_what_was_registered(
    gate: Gate, memory: Memory, tmp_path: Path
) -> None:
    memory.register(REGION)
    gate.follow(access("infer"))
    for use in (
        lambda: memory.register(Region("s", "m", 0, 1)),
        lambda: memory.read(PLACE),
        lambda: memory.write(PLACE, b"abcd"),
    ):
        with pytest.raises(DeniedError, match="shared_memory is not allowed"):
            use()
    assert (tmp_path / "m").read_bytes() == bytes(8)
    assert memory.status("r") == [REGION]
    memory.unregister(None)
    gate.follow(access("shared_memory"))
    assert memory.status(None) == []
    memory.register(REGION)
