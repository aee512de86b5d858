"""What a job puts on the broker's side; its endings are tested in test_bindings.py."""

from tests.transports.test_bindings import GOOD, Bench, binding, on_loop


@on_loop
async def test_an_answer_that_the_broker_would_not_take_is_a_dead_letter():
    bench = Bench(binding(retain=True), limit=900)
    bench.session.receive("in/x", GOOD)
    assert bench.session.to("out/x")[0].retain
    bench.session.receive("in/x", GOOD, correlation=bytes(1000))
    (letter,) = bench.letters()
    assert letter["code"] == "INVALID_ARGUMENT"
    assert "the broker takes 900" in letter["message"]
