"""Memory that a client lends, over a real socket, on asyncio and on uvloop."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edged.access.gate import build_access
from edged.config.access import AccessConfig, QuotaConfig
from edged.config.schema import Config
from edged.errors import EdgedError
from edged.messages import PrepareRequest
from edged.protocol import memory, native, prepared, prepared_runs
from edged.protocol.conversation import ANSWER_LIMITS
from edged.protocol.frames import Frame, Kind, Limits, encode_frame
from edged.protocol.layout import BodyLayout
from edged.protocol.memory import BindHead, Source, Target
from edged.protocol.native import decode_response
from edged.specs import Size
from edged.system import shm
from edged.system.shm import make_memory
from edged.tensors import TensorSpec
from edged.transports.native import bound as native_bound
from edged.transports.native.bound import Fixed
from edged.transports.native.loans import Loans
from tests.fakes.descriptors import descriptors
from tests.fakes.house import Connect, House, eventually
from tests.fakes.lender import (
    bind,
    bound,
    floats,
    lend,
    lent,
    message_of,
    prepare,
    run,
    send_with,
)
from tests.fakes.wire import EchoCall, EchoDoor, Held, joined, only

BIG = TensorSpec("x", "float32", ("batch", 2048))
MIB = 1 << 20


def mapped() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:edged ")


def answer(frame: Frame, *rest: TensorSpec) -> dict[str, np.ndarray]:
    assert frame.kind == Kind.ANSWER, message_of(frame)
    return dict(prepared_runs.decode_answer(frame, "m", BodyLayout(rest)).outputs)


class TestRuns:
    @pytest.mark.parametrize("is_quiet", [False, True], ids=["usual", "alone"])
    def test_from_place_to_place(self, house: House, peer: Connect, is_quiet: bool):
        house.start()
        house.door.is_quiet = is_quiet
        client = peer()
        region, mine = lent(client, MIB)
        handle = bound(
            bind(client, prepare(client, BIG), 1, [(region, 64)], [(region, 65536, 8192)])
        )
        question, found = floats(mine, 2048, 64), floats(mine, 2048, 65536)
        for number in range(1, 6):
            question[:] = np.arange(2048) * number
            client.send(run(number, handle, 1))
            frame = client.frame()
            assert (frame.kind, frame.request_id) == (Kind.ANSWER, number)
            assert len(frame.body) == 0
            np.testing.assert_array_equal(found, question)
        assert bool(house.door.lone) == is_quiet

    @pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a stay needs two cores")
    def test_the_loop_stays_where_the_client_says(self, house: House, peer: Connect):
        house.start()
        house.door.is_quiet = True
        client, stay = peer(), house.door.stay
        core = max(os.sched_getaffinity(0))
        region, _ = lent(client, 2 * MIB)
        places = ([(region, 0)], [(region, MIB, MIB)])
        large = bound(bind(client, prepare(client, BIG), 64, *places))
        small = bound(bind(client, prepare(client, BIG), 1, *places))
        number = 0

        def ask(handle: int, rows: int) -> int:
            nonlocal number
            number += 1
            client.send(run(number, handle, rows))
            assert client.frame().kind == Kind.ANSWER
            house.call(lambda: None)  # what follows an answer is over
            return stay.core

        assert {ask(large, 64) for _ in range(40)} == {-1}  # nobody has said where
        client.send(memory.encode_near(core))
        assert {ask(small, 1) for _ in range(40)} == {-1}
        assert [ask(large, 64) for _ in range(3)] == [core] * 3
        assert house.call(lambda: os.sched_getaffinity(0)) == {core}
        client.send(memory.encode_near(-1))
        assert [ask(large, 64) for _ in range(2)][1] == -1  # the first may have come with it
        assert house.call(lambda: len(os.sched_getaffinity(0))) > 1
        client.send(memory.encode_near(core))
        assert [ask(large, 64) for _ in range(2)][1] == core
        house.server.shares_core = False
        house.call(stay.leave)
        assert {ask(large, 64) for _ in range(40)} == {-1}

    @pytest.mark.parametrize("is_quiet", [False, True], ids=["usual", "alone"])
    def test_an_output_without_a_place_comes_along(
        self, house: House, peer: Connect, is_quiet: bool
    ):
        house.start()
        house.door.is_quiet = is_quiet
        client = peer()
        small = TensorSpec("n", "int64", ("batch",))
        region, mine = lent(client, MIB)
        handle = prepare(client, BIG, small)
        handle = bound(
            bind(client, handle, 2, [(region, 0), (region, 32768)], [(region, 65536, 16384), None])
        )
        floats(mine, 4096)[:] = 3
        np.frombuffer(mine, np.int64, 2, 32768)[:] = (5, 6)
        for number in (1, 2):
            client.send(run(number, handle, 2))
            assert answer(client.frame(), small)["n"].tolist() == [5, 6]
            assert set(floats(mine, 4096, 65536)) == {3.0}

    def test_a_large_tensor_is_not_copied(self, house: House, peer: Connect):
        house.start()
        house.door.is_holding = True
        client = peer()
        region, mine = lent(client, MIB)
        client.send(run(1, bound(bind(client, prepare(client, BIG), 1, [(region, 64)])), 1))
        eventually(lambda: house.door.held)
        array = house.door.held[0][0].inputs["x"]
        floats(mine, 2048, 64)[:] = 9
        assert set(array) == {9.0} if array.ndim == 1 else (array == 9).all()
        assert not array.flags.writeable

    @pytest.mark.parametrize(
        ("spec", "offset"),
        [
            (TensorSpec("x", "int64", (2048,)), 64),
            (TensorSpec("x", "int32", (2048,)), 64),
            (TensorSpec("x", "bool", (8192,)), 64),
            (TensorSpec("x", "uint8", (64,)), 64),
            (BIG, 68),
            (BIG, 1),
        ],
        ids=["int64", "int32", "bool", "small", "not aligned", "odd"],
    )
    @pytest.mark.hostile("D10 memory that its client rewrites during the run")
    def test_what_may_be_an_index_does_not_change_under_a_run(
        self, house: House, peer: Connect, spec: TensorSpec, offset: int
    ):
        house.start()
        house.door.is_holding = True
        client = peer()
        rows = 1 if spec.is_batched else 0
        region, mine = lent(client, MIB)
        handle = bound(bind(client, prepare(client, spec), rows, [(region, offset)]))
        client.send(run(1, handle, rows))
        eventually(lambda: house.door.held)
        mine[:] = b"\x07" * MIB
        array = house.door.held[0][0].inputs["x"]
        assert not array.any()
        assert array.flags.aligned

    @pytest.mark.parametrize("is_quiet", [False, True], ids=["usual", "alone"])
    def test_a_bool_that_is_none(self, house: House, peer: Connect, is_quiet: bool):
        house.start()
        house.door.is_quiet = is_quiet
        client = peer()
        region, mine = lent(client, MIB)
        handle = prepare(client, TensorSpec("x", "bool", (3,)))
        handle = bound(bind(client, handle, 0, [(region, 0)], [(region, 64, 3)]))
        mine[:3] = b"\1\0\1"
        client.send(run(1, handle, 0))
        answer(client.frame())
        assert mine[64:67] == b"\1\0\1"
        mine[1] = 2
        client.send(run(2, handle, 0))
        assert "not one of 0 and 1" in message_of(client.frame())

    def test_other_shapes_come_as_a_result(self, house: House, peer: Connect, monkeypatch):
        house.start()
        client = peer()
        region, mine = lent(client, MIB)
        handle = bound(
            bind(client, prepare(client, BIG), 1, [(region, 0)], [(region, 65536, 8192)])
        )
        monkeypatch.setattr(
            native_bound.Bound, "read", lambda _: {"x": np.ones((2, 2048), np.float32)}
        )
        client.send(run(1, handle, 1))
        response = decode_response(client.frame(), "m", ANSWER_LIMITS)
        assert response.outputs["x"].shape == (2, 2048)
        assert not any(mine[65536:])

    def test_a_request_with_a_body_or_other_rows(self, house: House, peer: Connect):
        house.start()
        client = peer()
        region, _ = lent(client, MIB)
        handle = bound(bind(client, prepare(client, BIG), 1, [(region, 0)]))
        for data in (run(1, handle, 2), run(1, handle, 1, bytes(8192))):
            client.send(data)
            assert "bound to places for 1 rows" in message_of(client.frame())

    def test_a_deadline(self, house: House, peer: Connect):
        house.start()
        house.door.is_holding = True
        client = peer()
        region, _ = lent(client, MIB)
        began_ns = time.monotonic_ns()
        client.send(
            run(1, bound(bind(client, prepare(client, BIG), 1, [(region, 0)])), 1, b"", 10**9)
        )
        eventually(lambda: house.door.held)
        assert house.door.held[0][0].deadline_ns >= began_ns + 10**12

    def test_one_that_fails(self, house: House, peer: Connect):
        house.start()
        client = peer()
        region, _ = lent(client, MIB)
        handle = bound(
            bind(client, prepare(client, BIG), 1, [(region, 0)], [(region, 65536, 8192)])
        )
        house.door.error = shm.InvalidRequestError("no")
        client.send(run(1, handle, 1), run(2, handle, 1))
        assert message_of(client.frame()) == "no"
        answer(client.frame())

    def test_outlives_the_handle_it_was_made_of(self, house: House, peer: Connect):
        house.start()
        client = peer()
        region, _ = lent(client, MIB)
        first = prepare(client, BIG)
        handle = bound(bind(client, first, 1, [(region, 0)]))
        client.send(prepared.encode_forget(first), run(1, handle, 1))
        answer(client.frame(), BIG)
        client.send(prepared.encode_forget(handle), run(2, handle, 1))
        assert "no handle" in message_of(client.frame())


class TestPlaces:
    @pytest.mark.hostile(
        "D2 an offset or a length that overflows",
        "R4 offset and size are whole numbers held against the real size",
    )
    @pytest.mark.parametrize(
        ("offset", "size"),
        [
            (2**64 - 32, 8192),
            (2**63, 8192),
            (-64, 8192),
            (MIB, 8192),
            (MIB - 8191, 8192),
            (0, 2**64 - 1),
            (64, 2**64 - 64),
        ],
    )
    def test_out_of_the_region(self, house: House, peer: Connect, offset: int, size: int):
        house.start()
        client = peer()
        region, _ = lent(client, MIB)
        handle = prepare(client, BIG)
        frame = bind(client, handle, 1, [(region, 0)], [(region, offset, size)])
        assert "are not all in region" in message_of(frame)
        if size == 8192:
            frame = bind(client, handle, 1, [(region, offset)])
            assert "are not all in region" in message_of(frame)
        frame = bind(client, handle, 2**32 - 1, [(region, 0)])
        assert "are not all in region" in message_of(frame)
        bound(bind(client, handle, 1, [(region, MIB - 8192)], [(region, 0, 8192)]))

    @pytest.mark.hostile(
        "D5 an output that overlaps an input, another output or what another client lends"
    )
    def test_overlaps(self, house: House, peer: Connect):
        house.start()
        client = peer()
        region, _ = lent(client, MIB)
        other, _ = lent(client, MIB)
        handle = prepare(client, BIG)
        for offset in (0, 64, 8191, 8192 - 64):
            frame = bind(client, handle, 1, [(region, 0)], [(region, offset, 8192)])
            assert "overlaps" in message_of(frame)
        bound(bind(client, handle, 1, [(region, 0)], [(region, 8192, 8192)]))
        bound(bind(client, handle, 1, [(region, 0)], [(other, 0, 8192)]))
        two = prepare(client, BIG, TensorSpec("z", "float32", ("batch",)))
        places = [(region, 0), (region, 65536)]
        frame = bind(client, two, 1, places, [(other, 0, 8192), (other, 8191, 4)])
        assert "overlaps" in message_of(frame)

    @pytest.mark.hostile(
        "D5 an output that overlaps an input, another output or what another client lends"
    )
    def test_memory_is_lent_once(self, house: House, peer: Connect):
        house.start()
        one, other = peer(), peer()
        descriptor = make_memory(MIB)
        try:
            region = memory.decode_lent(lend(one, MIB, [descriptor])).region
            for client in (one, other):
                assert "lent already" in message_of(lend(client, MIB, [descriptor]))
            one.send(memory.encode_recall(region))
            bind(one, 99, 0, [])  # answered, so that was done
            assert lend(other, MIB, [descriptor]).kind == Kind.LENT
            other.close()
            eventually(lambda: lend(one, MIB, [descriptor]).kind == Kind.LENT)
        finally:
            os.close(descriptor)

    def test_region_that_only_may_be_read(self, house: House, peer: Connect):
        house.start()
        client = peer()
        mine = make_memory(MIB)
        theirs = os.open(f"/proc/self/fd/{mine}", os.O_RDONLY)
        head = memory.decode_lent(lend(client, MIB, [theirs]))
        os.close(mine), os.close(theirs)
        assert not head.is_writable
        handle = prepare(client, BIG)
        frame = bind(client, handle, 1, [(head.region, 0)], [(head.region, 65536, 8192)])
        assert "may only be read" in message_of(frame)
        client.send(run(1, bound(bind(client, handle, 1, [(head.region, 0)])), 1))
        answer(client.frame(), BIG)

    def test_what_fits_no_call(self, house: House, peer: Connect):
        house.start()
        client = peer()
        region, _ = lent(client, MIB)
        handle, here = prepare(client, BIG), (region, 0)
        for rows, inputs, outputs, text in [
            (0, [here], [], "takes at least one row"),
            (-1, [here], [], "takes at least one row"),
            (2**32, [here], [], "takes at least one row"),
            (1, [], [], "0 places for 1 inputs"),
            (1, [here, here], [], "2 places for 1 inputs"),
            (1, [here], [None, (region, 8192, 8192)], "2 places for 1 outputs"),
            (1, [here], [(region, 8192, 8191)], "takes 8192 bytes; its place has 8191"),
            (1, [(region + 1, 0)], [], f"no region {region + 1} is lent"),
            (1, [here], [(0, 8192, 8192)], "no region 0 is lent"),
        ]:
            assert text in message_of(bind(client, handle, rows, inputs, outputs))
        assert "no handle 77" in message_of(bind(client, 77, 1, [here]))

    def test_outputs_of_unknown_shapes_have_no_places(
        self, house: House, peer: Connect, monkeypatch
    ):
        house.start()
        client = peer()
        region, mine = lent(client, MIB)
        monkeypatch.setattr(prepared, "answer_layout", lambda _: None)
        handle = prepare(client, BIG)
        frame = bind(client, handle, 1, [(region, 0)], [(region, 65536, 8192)])
        assert "only known after a run" in message_of(frame)
        floats(mine, 2048)[:] = 2
        client.send(run(1, bound(bind(client, handle, 1, [(region, 0)])), 1))
        assert (decode_response(client.frame(), "m", ANSWER_LIMITS).outputs["x"] == 2).all()


class TestLoans:
    @pytest.mark.hostile(
        "D7 a thousand regions",
        "D8 a sparse region of a TiB",
        "D9 a client that ends without a word about its regions",
    )
    def test_quotas(self, house: House, peer: Connect):
        house.start(max_regions=3, max_shared=Size(4 * MIB))
        client, other = peer(), peer()
        before = descriptors(), mapped()
        kept = [lent(client, MIB) for _ in range(3)]
        for _ in range(1000):
            assert "limits.max_regions" in message_of(lend(client, MIB, []))
        client.send(memory.encode_recall(kept[0][0]))
        assert "limits.max_shared" in message_of(lend(client, 3 * MIB, []))
        assert "limits.max_shared" in message_of(lend(client, 1 << 40, []))
        assert "limits.max_shared" in message_of(lend(client, 2**64 - 1, []))
        kept.append(lent(client, 2 * MIB))
        lent(other, 4 * MIB)
        del kept
        client.close(), other.close()
        eventually(
            lambda: (
                (gc.collect(), descriptors() <= before[0], mapped() <= before[1])[1:]
                == (True, True)
            )
        )

    @pytest.mark.hostile("D7 a thousand regions")
    def test_one_user_with_many_connections(self, house: House, peer: Connect):
        house.start()
        quota = AccessConfig(quotas=(QuotaConfig(regions=2),))
        house.call(house.server.gate.follow, build_access(Config(access=quota)))
        clients = [peer() for _ in range(3)]
        first = lent(clients[0], MIB)
        last = lent(clients[1], MIB)
        assert "access.quotas[0].regions" in message_of(lend(clients[2], MIB, []))
        # What LEND was told to come may be too much when it comes.
        clients[0].send(memory.encode_recall(first[0]), native.encode_call(1, "status", {}))
        assert clients[0].frame().kind == Kind.REPLY
        del first
        for client in clients[1:]:
            client.send(memory.encode_lend(1, MIB))
            assert client.frame().kind == Kind.READY
        frames = []
        for client in clients[1:]:
            file = make_memory(MIB)
            send_with(client, joined(memory.encode_pass(2)), [file])
            os.close(file)
            frames.append(client.frame())
        assert frames[0].kind == Kind.LENT
        assert "access.quotas[0].regions" in message_of(frames[1])
        assert house.server.gate.refusals["regions"] == 2
        # Memory that is no good counts for nothing.
        clients[1].close()
        del last
        eventually(lambda: len(house.server.connections) == 2)
        for _ in range(3):
            with Path("/dev/zero").open("rb") as zero:
                assert "memory" in message_of(lend(clients[2], MIB, [zero.fileno()]))
        lent(clients[2], MIB), lent(clients[0], MIB)

    @pytest.mark.hostile("R6 a feature that is off says so")
    def test_none_where_the_operator_wants_none(self, house: House, peer: Connect):
        house.start(max_regions=0)
        assert "limits.max_regions" in message_of(lend(peer(), MIB, []))

    def test_where_memory_is_never_promised(self, house: House, peer: Connect, monkeypatch):
        house.start()
        monkeypatch.setattr(shm, "why_not", lambda: "because")
        assert "no memory is taken here: because" in message_of(lend(peer(), MIB, []))

    @pytest.mark.hostile(
        "D4 a region that is let go, or whose client goes, in the middle of a run",
        "R5 a region lives as long as somebody uses it",
    )
    @pytest.mark.parametrize("end", ["recalled", "closed"])
    def test_stays_until_the_run_is_over(
        self, house: House, peer: Connect, end: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(Held, "cancel", lambda _: False)  # it does not wait, it runs
        house.start(max_regions=1)
        house.door.is_holding = True
        client, other = peer(), peer()
        before = mapped()
        region, mine = lent(client, MIB)
        floats(mine, 2048)[:] = 4
        handle = bound(
            bind(client, prepare(client, BIG), 1, [(region, 0)], [(region, 65536, 8192)])
        )
        client.send(run(1, handle, 1))
        eventually(lambda: house.door.held)
        if end == "recalled":
            client.send(memory.encode_recall(region), run(2, handle, 1))
            assert "no handle" in message_of(client.frame())
            assert "limits.max_regions" in message_of(lend(client, MIB, [])), "it is mapped still"
        else:
            client.send(b"no frame" * 4)
            eventually(lambda: len(house.server.connections) == 1)
        assert (house.door.held[0][0].inputs["x"] == 4).all()
        house.call(house.door.release_all)
        if end == "recalled":
            answer(client.frame())
        else:
            house.door.is_holding = False
            other.send(native.encode_call(1, "status", {}))
            assert other.frame().kind == Kind.REPLY
        assert set(floats(mine, 2048, 65536)) == {4.0}
        house.door.requests.clear()
        del mine
        eventually(lambda: gc.collect() >= 0 and mapped() <= before)

    @pytest.mark.hostile("D11 a region that is used after it was let go")
    def test_a_number_is_never_given_twice(self, house: House, peer: Connect):
        house.start(max_regions=1)
        client = peer()
        region, _ = lent(client, MIB)
        handle = prepare(client, BIG)
        client.send(memory.encode_recall(region), memory.encode_recall(region))
        gc.collect()
        again, _ = lent(client, MIB)
        assert again != region
        assert f"no region {region}" in message_of(bind(client, handle, 1, [(region, 0)]))


class TestPass:
    @pytest.mark.hostile(
        "A10 200 descriptors in one control message",
        "R41 descriptors that nobody asked for are closed",
    )
    @pytest.mark.parametrize("count", [0, 2, 3, 200])
    def test_another_number_than_one(self, house: House, peer: Connect, count: int):
        house.start()
        client = peer()
        prepare(client, BIG)  # so the other end is open
        descriptor = make_memory(MIB)
        before = descriptors()
        for _ in range(20):
            text = message_of(lend(client, MIB, [descriptor] * count))
            assert "expected exactly one" in text
        assert descriptors() <= before
        assert lend(client, MIB, [descriptor]).kind == Kind.LENT
        os.close(descriptor)

    def test_descriptors_with_other_frames(self, house: House, peer: Connect):
        """While one is awaited, they come in; none of them stays."""
        house.start()
        client = peer()
        prepare(client, BIG)
        with Path(os.devnull).open() as null:
            before = descriptors()
            client.send(memory.encode_lend(1, MIB))
            assert client.frame().kind == Kind.READY
            for number in range(2, 60):
                send_with(client, joined(native.encode_call(number, "status", {})), [null.fileno()])
                assert client.frame().kind == Kind.REPLY
            assert descriptors() < before + 10
            send_with(client, joined(memory.encode_pass(90)), [])
            assert "expected exactly one" in message_of(client.frame())
            assert descriptors() <= before

    @pytest.mark.parametrize("how", ["closed", "broken", "wrong"])
    def test_a_client_that_goes_instead(self, house: House, peer: Connect, how: str):
        house.start()
        before = descriptors()
        client = peer()
        client.send(memory.encode_lend(1, MIB))
        assert client.frame().kind == Kind.READY
        with Path(os.devnull).open() as null:
            send_with(client, b"EDGD", [null.fileno()])
        if how == "closed":
            client.close()
        elif how == "broken":
            client.socket.shutdown(1)
            assert client.is_closed()
        else:
            client.send(b"x" * 40)
            assert "version" in message_of(client.frame())
            assert client.is_closed()
        client.close()
        eventually(lambda: not house.server.connections)
        assert descriptors() <= before

    def test_without_a_lend(self, house: House, peer: Connect):
        house.start()
        client = peer()
        descriptor = make_memory(MIB)
        send_with(client, joined(memory.encode_pass(1)), [descriptor])
        assert "LEND first" in message_of(client.frame())
        client.send(memory.encode_lend(2, MIB), memory.encode_lend(3, MIB))
        assert client.frame().kind == Kind.READY
        assert "awaited already" in message_of(client.frame())
        os.close(descriptor)

    @pytest.mark.hostile(
        "R3 clients hand over descriptors and never names",
        "D1 a name of memory that is the daemon's",
    )
    def test_a_name_is_none(self, house: House, peer: Connect):
        house.start()
        client = peer()
        client.send(encode_frame(Kind.LEND, 1, b"\x91\xa9/edged-io", []))
        assert "malformed head" in message_of(client.frame())

    def test_frames_of_others_in_between(self, house: House, peer: Connect):
        """Also more than one turn takes, in pieces, and while nothing is read for a while."""
        house.start()
        client = peer()
        descriptor = make_memory(MIB)
        client.send(memory.encode_lend(1, MIB))
        assert client.frame().kind == Kind.READY
        calls = b"".join(joined(native.encode_call(n, "status", {})) for n in range(10, 400))
        client.send(calls[:-20])
        for number in range(10, 399):
            assert client.frame().request_id == number
        client.send(calls[-20:])
        assert client.frame().request_id == 399
        send_with(client, joined(memory.encode_pass(2)), [descriptor])
        assert client.frame().kind == Kind.LENT
        client.send(calls)
        assert [client.frame().request_id for _ in range(10, 400)] == list(range(10, 400))
        os.close(descriptor)


NUMBERS = st.one_of(
    st.integers(-3, 3), st.sampled_from([0, 64, MIB - 8192, MIB, 2**32 - 1, 2**63, 2**64 - 1])
)


@settings(max_examples=300)
@example((5, 1), [(1, 64)], [(1, 16384, 8192)], BIG)
@example((5, 0), [(1, MIB - 8192)], [None], TensorSpec("x", "float32", (2048,)))
@given(
    st.tuples(NUMBERS, NUMBERS),
    st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3),
    st.lists(st.one_of(st.none(), st.tuples(NUMBERS, NUMBERS, NUMBERS)), max_size=3),
    st.sampled_from([BIG, TensorSpec("x", "float32", (2048,))]),
)
def test_any_places_are_places_or_refused(
    head: tuple[int, int],
    sources: list[tuple[int, int]],
    targets: list[tuple[int, int, int] | None],
    spec: TensorSpec,
) -> None:
    """Every array of a call that was bound lies in its region, and what is refused says why."""
    server = SimpleNamespace(limits=Limits(), max_regions=2, max_shared_bytes=4 * MIB, lent=set())
    said: list[Frame] = []
    descriptor = make_memory(MIB)
    passes = SimpleNamespace(begin_passing=lambda: None, end_passing=lambda: [descriptor])
    says = (lambda buffers: said.append(only(buffers)), lambda: None)
    loans = Loans(server, passes, says, {}, "me")  # type: ignore[arg-type]
    loans.handle(only(memory.encode_lend(1, MIB)))
    loans.handle(only(memory.encode_pass(2)))
    call = EchoCall(EchoDoor(), PrepareRequest("m", (spec,)))
    layout = BodyLayout([spec])
    places = [None if place is None else Target(*place) for place in targets]
    frame = memory.encode_bind(3, BindHead(*head, [Source(*place) for place in sources], places))
    try:
        made = loans.bind(only(frame), lambda _: Fixed(call, layout, layout, 0))
    except EdgedError as exc:
        assert exc.message  # noqa: PT017 - either way is right
        return
    arrays = [*made._inputs.values(), *made._targets.values()]
    whole = np.frombuffer(loans._regions[1].memory, np.uint8)
    for array in arrays:
        start = array.ctypes.data - whole.ctypes.data
        assert 0 <= start <= start + array.nbytes <= MIB
        assert array.shape == ((head[1], 2048) if spec is BIG else (2048,))
    assert len(sources) == 1
    del whole, arrays, array
    loans.clear()
