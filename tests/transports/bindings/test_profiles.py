"""Births over a binding: what is subscribed to, and what becomes of a message with aliases."""

from __future__ import annotations

from edged.protocol.sparkplug import DataType, Metric, encode_sparkplug, parse_sparkplug
from tests.fakes.session import settle
from tests.transports.bindings.test_bindings import Bench, binding, on_loop

DATA = "spBv1.0/g/DDATA/n/d"


def payload(*, alias: bool, birth: bool = False) -> bytes:
    """``a`` and ``b`` at birth; later by alias."""
    metrics = [
        Metric(None if alias else name, DataType.DOUBLE, value, number)
        for number, (name, value) in enumerate([("a", 1.0), ("b", 2.0)])
    ]
    return encode_sparkplug(metrics, 9, 0 if birth else 1)


@on_loop
async def test_a_node_is_understood_when_its_birth_was_heard() -> None:
    bench = Bench(binding(from_="spBv1.0/g/DDATA/{node}/{site}", codec="sparkplug", qos=0))
    assert {text for text, _ in bench.session.of("subscribe")[0]} == {
        "spBv1.0/g/DDATA/+/+",
        "spBv1.0/g/NBIRTH/+",
        "spBv1.0/g/DBIRTH/+/+",
    }
    bench.session.receive(DATA, payload(alias=True), 0)
    await settle()
    (question,) = bench.session.to("spBv1.0/g/NCMD/n")
    assert parse_sparkplug(question.payload)["Node Control/Rebirth"] is True
    (letter,) = bench.letters()
    assert "explains the alias 0; its node is asked for one" in letter["message"]
    assert letter["size"] == len(payload(alias=True))
    bench.session.receive("spBv1.0/g/DBIRTH/n/d", payload(alias=False, birth=True), 0)
    bench.session.receive(DATA, payload(alias=True), 0)
    await settle()
    assert [one["sum"] for one in bench.session.documents("out/d")] == [3.0]
    assert bench.bindings.stats()["unmatched"] == 0
    assert bench.bindings.stats()["births"]["births"] == 1


@on_loop
async def test_a_new_configuration_forgets_no_birth() -> None:
    config = binding(from_="spBv1.0/g/DDATA/{node}/{site}", codec="sparkplug", qos=0)
    bench = Bench(config)
    bench.session.receive("spBv1.0/g/DBIRTH/n/d", payload(alias=False, birth=True), 0)
    bench.bindings.swap(bench.bindings.prepare([config, binding("other")]))
    bench.session.receive(DATA, payload(alias=True), 0)
    await settle()
    assert len(bench.session.to("out/d")) == 1
