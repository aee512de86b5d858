"""Lanes: graphs, shapes that change, memory that is shared; the fake refuses what CUDA refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edged.errors import RunError
from edged.runtimes import tensorrt_lane
from edged.runtimes.cuda import Device
from edged.runtimes.tensorrt_lane import is_mapped
from edged.runtimes.tensorrt_session import TensorRtSession
from tests.fakes import tensorrt as fake
from tests.fakes.tensorrt_stand import Stand
from tests.models import double, two_inputs


def ask(session: TensorRtSession, rows: int, value: float = 1) -> None:
    """Run with other numbers each time, and look at the answer."""
    x = np.arange(4 * rows, dtype="f4").reshape(rows, 4) + value
    np.testing.assert_array_equal(session.run({"x": x})["y"], x * 2)


def noted(stand: Stand) -> list[dict[str, tuple[int, ...]]]:
    """The shapes of the inputs of each run that is to come."""
    ran: list[dict[str, tuple[int, ...]]] = []
    honest = stand.trt.module.IExecutionContext._work

    def work(context: Any, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        ran.append(shapes)
        honest(context, shapes, addresses)

    stand.trt.module.IExecutionContext._work = work
    return ran


@pytest.fixture
def stand() -> Stand:
    return Stand(lanes=1)


class TestGraphs:
    @pytest.mark.parametrize("release", fake.RELEASES)
    def test_what_comes_again_is_launched_as_one(self, release: str):
        stand = Stand(release, lanes=1)
        session = stand.session(double())
        for number in range(6):
            ask(session, 3, number)
        # Two runs, what was noted after the second, and from then on only the graph.
        assert stand.count("execute_async_v3", "cudaGraphLaunch") == [3, 4]
        assert stand.count("cudaStreamBeginCapture", "cudaGraphInstantiate") == [1, 1]
        session.close()
        assert stand.gpu.is_empty

    def test_each_shape_has_its_own(self, stand: Stand):
        session = stand.session(double(), exact=(1,))
        for number in range(5):
            for rows in (1, 3, 8):
                ask(session, rows, number)
        assert stand.count("cudaGraphInstantiate", "cudaGraphLaunch") == [3, 9]

    def test_two_lanes_have_each_their_own(self):
        stand = Stand(lanes=2)
        session = stand.session(double())
        held = session._take()
        for number in range(3):
            ask(session, 2, number)
        session._give(held)
        for number in range(3):
            ask(session, 2, number)
        assert not stand.gpu.is_empty
        session.close()
        assert stand.gpu.is_empty

    def test_several_inputs(self, stand: Stand):
        model, session = two_inputs(), stand.session(two_inputs())
        for _ in range(4):
            model.check(session)
        assert stand.count("cudaGraphLaunch")[0] > 0

    def test_shapes_that_were_not_used_for_long_are_let_go(self, stand: Stand):
        session = stand.session(double(), max_batch=20)
        for rows in range(1, 20):
            for _ in range(3):
                ask(session, rows)
        assert len(stand.gpu.graphs) == tensorrt_lane._WAYS
        assert stand.count("cudaGraphInstantiate") == [19]
        ask(session, 1)
        ask(session, 19)
        assert len(stand.gpu.graphs) == tensorrt_lane._WAYS - 1

    def test_switched_off(self):
        stand = Stand(lanes=1)
        stand.runtime._has_graphs = False
        session = stand.session(double())
        for _ in range(4):
            ask(session, 2)
        assert stand.count("execute_async_v3", "cudaStreamBeginCapture") == [4, 0]

    def test_pycuda_has_none_and_answers_all_the_same(self):
        stand = Stand(cuda="pycuda", lanes=1)
        session = stand.session(double())
        for number in range(4):
            ask(session, 2, number)
        assert stand.count("execute_async_v3") == [4]
        session.close()
        assert not stand.gpu.memory
        assert not stand.gpu.host


class TestWhereItCannotBeNoted:
    @pytest.mark.parametrize(
        "call", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]
    )
    def test_it_is_queued_piece_by_piece_from_then_on(self, stand: Stand, call: str):
        session = stand.session(double())
        ask(session, 2)
        stand.gpu.fail = {call: 900}
        for number in range(5):
            ask(session, 2, number)
        assert not stand.gpu.fail, "it was tried"
        assert stand.count("cudaStreamBeginCapture", "cudaGraphLaunch") == [1, 0]
        # Other shapes are another matter.
        for number in range(4):
            ask(session, 3, number)
        assert stand.count("cudaGraphLaunch") == [2]
        session.close()
        assert stand.gpu.is_empty

    @pytest.mark.parametrize("call", ["cudaMemcpyAsync", "execute_async_v3"])
    def test_also_where_a_piece_of_it_is_refused(
        self, stand: Stand, call: str, monkeypatch: pytest.MonkeyPatch
    ):
        session = stand.session(double())
        honest = stand.gpu.begin_capture

        def begin(stream: int) -> None:
            honest(stream)
            stand.gpu.fail = {call: 900}

        monkeypatch.setattr(stand.gpu, "begin_capture", begin)
        for number in range(5):
            ask(session, 2, number)
        assert stand.count("cudaStreamBeginCapture", "cudaGraphLaunch") == [1, 0]
        session.close()
        assert stand.gpu.is_empty

    def test_a_graph_that_is_not_taken_is_replaced_at_once(self, stand: Stand):
        session = stand.session(double())
        for number in range(3):
            ask(session, 2, number)
        stand.gpu.fail = {"cudaGraphLaunch": 719}
        for number in range(3):
            ask(session, 2, number)
        assert stand.count("cudaGraphLaunch") == [2]
        assert not stand.gpu.graphs

    def test_the_fake_refuses_what_was_not_run_before(self, stand: Stand):
        """The control: TensorRT allocates in the first run of a shape, which no graph can hold."""
        session = stand.session(double())
        lane = session._take()
        way = lane._way({"x": (2, 4)})
        lane._capture(way)
        assert (way.graph, way.is_plain) == (None, True)

    def test_the_context_has_the_shapes_of_each_run(self, stand: Stand):
        stand.runtime._has_graphs = False
        session = stand.session(double())
        ran = noted(stand)
        for rows in (3, 3, 2, 3, 2, 2):
            ask(session, rows)
        assert ran == [{"x": (rows, 4)} for rows in (3, 3, 2, 3, 2, 2)]

    def test_shapes_are_set_anew_after_a_run_that_failed_half_way(self, stand: Stand):
        """One input has its new shape and the other has not: nothing else would set it back."""
        stand.runtime._has_graphs = False
        model = two_inputs()
        session = stand.session(model)
        ran = noted(stand)
        session.run(model.sample(3))
        context = stand.trt.module.IExecutionContext
        honest, second = context.set_input_shape, model.inputs[1].name
        context.set_input_shape = lambda self, name, shape: (
            name != second and honest(self, name, shape)
        )
        with pytest.raises(RunError, match=f'input "{second}"'):
            session.run(model.sample(2))
        context.set_input_shape = honest
        session.run(model.sample(3))
        assert [shapes[model.inputs[0].name][0] for shapes in ran] == [3, 3]


class TestSharedMemory:
    """A chip whose GPU works in the machine's memory."""

    @pytest.mark.parametrize("cuda", ["cuda-bindings", "pycuda"])
    def test_nothing_is_copied(self, cuda: str):
        stand = Stand(cuda=cuda, lanes=1, integrated=True)
        session = stand.session(double())
        assert not stand.gpu.memory, "no second memory for the same tensors"
        for number in range(4):
            for rows in (1, 5):
                ask(session, rows, number)
        copies = stand.count("cudaMemcpyAsync", "memcpy_htod_async", "memcpy_dtoh_async")
        assert copies == [0, 0, 0]
        session.close()
        assert not stand.gpu.memory
        assert not stand.gpu.host

    def test_where_it_cannot_be_mapped_it_is_copied(self):
        stand = Stand(lanes=1, integrated=True)
        made = stand.engine(double())
        stand.gpu.fail = {"cudaHostGetDevicePointer": 801}
        session = stand.runtime.load(made)
        assert len(stand.gpu.memory) == 1, "for the one tensor of two"
        for number in range(4):
            ask(session, 2, number)

    @pytest.mark.parametrize(
        ("integrated", "capability", "wanted"),
        [(True, "8.7", True), (True, "7.2", True), (True, "11.0", True), (True, "6.2", False),
         (True, "5.3", False), (False, "9.0", False)],
    )  # fmt: skip
    def test_from_xavier_on(self, integrated: bool, capability: str, wanted: bool):
        device = Device(0, "a GPU", capability, 8, 1 << 30, integrated, "12.6", "12.6")
        assert is_mapped(device) == wanted


def test_answers_are_not_of_the_lanes_memory(stand: Stand):
    session = stand.session(double())
    kept: list[Any] = [session.run({"x": np.full((1, 4), n, "f4")})["y"] for n in range(5)]
    assert [array[0, 0] for array in kept] == [0, 2, 4, 6, 8]
