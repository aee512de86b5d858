"""What a job puts on the broker's side; its endings are tested in test_bindings.py."""

from edged.transports.bindings.work import OFF_LOOP_BYTES
from tests.fakes.door import FakeDoor
from tests.fakes.manifests import make_manifest
from tests.transports.bindings.test_bindings import GOOD, Bench, binding, on_loop
from tests.transports.conftest import until


@on_loop
async def test_an_answer_that_the_broker_would_not_take_is_a_dead_letter():
    bench = Bench(binding(retain=True), limit=900)
    bench.session.receive("in/x", GOOD)
    assert bench.session.to("out/x")[0].retain
    bench.session.receive("in/x", GOOD, correlation=bytes(1000))
    (letter,) = bench.letters()
    assert letter["code"] == "INVALID_ARGUMENT"
    assert "the broker takes 900" in letter["message"]


@on_loop
async def test_only_long_payloads_leave_the_loop():
    bench = Bench()
    bench.session.receive("in/hall", GOOD)
    assert len(bench.session.to("out/hall")) == 1, "answered before anything else ran"
    bench.session.receive("in/hall", GOOD[:-1] + b" " * OFF_LOOP_BYTES + b"}")
    assert len(bench.session.to("out/hall")) == 1
    await until(lambda: len(bench.session.to("out/hall")) == 2)


@on_loop
async def test_raw_payloads_stay_on_the_loop_however_long():
    wide = make_manifest(
        [("x", "float32", ("batch", OFF_LOOP_BYTES))], [("sum", "float32", ("batch",))], name="sum"
    )
    bench = Bench(binding(codec="raw"), door=FakeDoor({"sum": wide}))
    bench.session.receive("in/hall", bytes(4 * OFF_LOOP_BYTES))
    assert len(bench.session.to("out/hall")) == 1, "they are looked at, not read"
