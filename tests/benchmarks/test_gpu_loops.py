"""The floor: loops that are prepared once, over the same package, and give the right numbers."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gpu_loops import EngineLoop, open_session, p50_ms, runs_per_s, ways
from edged.runtimes.engine import decode
from edged.runtimes.onnxruntime import CPU
from tests.fakes.tensorrt_stand import Stand
from tests.models import double
from tests.runtimes.test_onnxruntime_device import X, artefact


def loops() -> list:
    model = artefact(double())
    return ways(open_session(model, [CPU]), "cpu", model, {"x": X})


@pytest.mark.parametrize("way", range(len(loops())))
def test_every_way_gives_the_numbers_again_and_again(way: int):
    loop = loops()[way]
    for _ in range(3):
        np.testing.assert_array_equal(loop()["y"], X * 2)


def test_times_are_of_what_ran():
    ran: list[int] = []
    assert p50_ms(lambda: ran.append(1) or {}, 0) >= 0
    assert len(ran) > 1
    assert runs_per_s(loops(), 0.02) > 0


def test_a_loop_that_fails_ends_the_measurement():
    def fail() -> dict:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        runs_per_s([*loops(), fail], 5)


@pytest.mark.parametrize("release", ["8.6", "11.4"])
def test_an_engine_of_the_pretended_tensorrt(release: str):
    stand = Stand(release)
    made = decode(stand.engine(double()).data)
    loop = EngineLoop(stand.trt, stand.cuda, made, {"x": X})
    for _ in range(2):
        np.testing.assert_array_equal(loop()["y"], X * 2)
    loop.close()
    assert not stand.gpu.memory
    assert not stand.gpu.host
