"""Documents as text: what is not known reads ``-``, and lines fit a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from edged.commands.rendering import (
    binding_table,
    device_document,
    render_device,
    render_models,
    render_status,
    table,
)
from edged.generation.record import set_aside
from tests.commands.test_rolling import ONE


def release(**more: Any) -> dict[str, Any]:
    return {
        "model": "gate", "release": 3, "version": "1.0", "digest": "0" * 64, "state": "ready",
        "reason": "", "runtime": "onnxruntime", "inline": True, "typical_run_us": 41.5,
        "in_flight": 0, "requests": 1234567, "failures": 0, "rows": 1234567, "batches": 99999,
        **more,
    }  # fmt: skip


def status(**more: Any) -> dict[str, Any]:
    return {
        "edged": "0.1.0", "node": "box", "pid": 1, "uptime_s": 5.0, "rss_bytes": 60 << 20,
        "live": True, "ready": True, "generation": 7,
        "config": {"digest": "ab" * 32, "applied": True, "at": 0.0, "problems": []},
        "degradations": {}, "models": [], "releases": [release()], "refused": 0,
        "socket": {"path": "/run/edged/edged.sock", "connections": 2, "requests": 9},
        "mqtt": None,
        **more,
    }  # fmt: skip


class TestTable:
    def test_words_left_numbers_right(self) -> None:
        assert table(("name", "n"), [("a", 5), ("long", 1234.5)]) == (
            "name       n\na          5\nlong  1234.5"
        )

    def test_unknown_is_never_zero(self) -> None:
        assert table(("a", "b", "c"), [(None, 0, ""), (1, 0.0, "x")]) == (
            "a    b  c\n-    0  -\n1  0.0  x"
        )

    def test_no_rows(self) -> None:
        assert table(("a", "b"), []) == "a  b"


class TestStatus:
    def test_ready(self) -> None:
        lines = render_status(status()).splitlines()
        assert lines[0] == "edged 0.1.0 on box: ready, up 5 s, 60.0 MiB resident"
        assert lines[1] == "generation 7, configuration abababababab"
        assert lines[2] == "socket /run/edged/edged.sock: 2 connections, 9 requests"
        assert lines[4].split()[:3] == ["model", "release", "state"]
        assert lines[5].split() == [
            "gate", "3", "ready", "onnxruntime", "1234567", "0", "1234567", "99999", "41.5", "yes",
        ]  # fmt: skip
        assert len(lines) == 6

    def test_one_is_no_plural(self) -> None:
        alone = {"path": "/s", "connections": 1, "requests": 1}
        assert "socket /s: 1 connection, 1 request\n" in render_status(status(socket=alone))

    def test_says_which_nodes_are_not_where_they_should_be(self) -> None:
        nodes = {"on_device": 60, "on_cpu": {"NonMaxSuppression": 2}}
        item = release(runtime="onnxruntime-cuda", nodes=nodes)
        line = (
            "gate release 3 on onnxruntime-cuda: 2 of 62 nodes run on the CPU: 2 NonMaxSuppression"
        )
        assert line in render_status(status(releases=[item])).splitlines()
        for fine in (None, {"on_device": 60, "on_cpu": {}}):
            assert "nodes" not in render_status(status(releases=[release(nodes=fine)]))

    def test_says_which_precision_and_why(self) -> None:
        item = release(precision="int8", choice="int8 won on this device: int8 0.500 ms a row")
        assert render_status(status(releases=[item])).splitlines()[6] == (
            "gate release 3 in int8: int8 won on this device: int8 0.500 ms a row"
        )

    def test_says_what_floats_are_computed_in(self) -> None:
        item = release(runtime="openvino", computes_in="float32")
        assert render_status(status(releases=[item])).splitlines()[6] == (
            "gate release 3: openvino computes floats in float32"
        )

    def test_which_of_several_answers(self) -> None:
        models = [{"name": "gate", "serving": 3}]
        lines = render_status(status(models=models, releases=[release(), release(release=2)]))
        assert "gate         3  ready, serves  onnxruntime" in lines
        assert "gate         2  ready          onnxruntime" in lines

    def test_what_was_never_loaded_has_no_figures(self) -> None:
        item = release(state="failed", runtime="", inline=False, typical_run_us=0.0, requests=0)
        line = render_status(status(releases=[item], rss_bytes=None)).splitlines()[5]
        assert line.split()[2:4] == ["failed", "-"]
        assert line.split()[-2:] == ["-", "no"]

    def test_what_comes_here_in_short(self) -> None:
        pull = {
            "model": "gate", "pull": "factory/gate:stable", "state": "failed", "next_in_s": 30.0,
        }  # fmt: skip
        store = {"releases": 3, "bytes": 5 << 20, "max_bytes": None, "collected": 0}
        store["needed_bytes"] = 3 << 20
        lines = render_status(status(store=store, pulls=[pull])).splitlines()
        assert lines[3] == "store: 3 releases, 5.0 MiB"
        assert "gate from factory/gate:stable: failed, never answered, asked again in 30 s" in lines
        store |= {"max_bytes": 1 << 30, "collected": 2}
        text = render_status(status(store=store, pulls=[{**pull, "good_ago_s": 7300.0}]))
        assert "store: 3 releases, 5.0 MiB of 1.0 GiB, 2 collected since the start" in text
        assert "nothing new" not in text
        assert "failed, last answered 2.0 h ago, asked" in text
        assert "current, asked" in render_status(status(pulls=[{**pull, "state": "current"}]))

    def test_a_store_that_has_to_keep_more_than_it_may(self) -> None:
        """What is kept though nothing needs it makes room: then new ones are taken."""
        store = {"releases": 4, "bytes": 50 << 10, "max_bytes": 20 << 10, "collected": 0}
        lines = render_status(status(store={**store, "needed_bytes": 30 << 10})).splitlines()
        assert lines[3:5] == [
            "store: 4 releases, 50 KiB of 20 KiB",
            "  30 KiB must stay, more than store.max_bytes: nothing new is taken",
        ]
        assert "nothing new" not in render_status(status(store={**store, "needed_bytes": 9}))

    def test_rollouts_in_short(self) -> None:
        assert "rollout of pumps: running; release 2 gets 10 %" in render_status(
            status(rollouts=[ONE])
        )

    def test_files_that_were_in_effect_are_set_aside(self) -> None:
        said = set_aside("an operator went back to generation 3")
        config = {"digest": "", "applied": False, "at": 0.0, "problems": [said]}
        text = render_status(status(config=config, degradations={"config": f"an end: {said}"}))
        assert "(the files are set aside, see below)" in text
        assert text.endswith(
            f"degraded:\n  config: an end, see below\n\nthe last change was set aside:\n  {said}"
        )

    def test_everything_that_is_wrong_is_shown(self) -> None:
        config = {"digest": "", "applied": False, "at": 0.0, "problems": ["edged.yaml:3:1: no"]}
        text = render_status(
            status(ready=False, config=config, degradations={"model.gate": "why"}, releases=[])
        )
        assert "NOT READY" in text
        assert "(the files are REFUSED, see below)" in text
        assert "no models are configured" in text
        assert text.endswith(
            "degraded:\n  model.gate: why\n\nthe last change was refused:\n  edged.yaml:3:1: no"
        )

    @pytest.mark.parametrize("last_error", [None, "Connection refused"])
    def test_a_broker(self, last_error: str | None) -> None:
        counters = {"received": 12, "answered": 11, "failed": 1, "in_flight": 0}
        other = {**counters, "latency_ms": 2}
        mqtt = {
            "state": "waiting", "broker": "localhost:1883", "last_error": last_error,
            "bindings": {"speech": counters, "gate": other},
        }  # fmt: skip
        text = render_status(status(mqtt=mqtt))
        assert "mqtt localhost:1883: waiting" in text
        assert ("(Connection refused)" in text) is (last_error is not None)
        rows = [line.split() for line in text.splitlines()]
        assert ["speech", "12", "11", "0", "1", "-"] in rows
        assert ["gate", "12", "11", "0", "1", "2"] in rows

    @pytest.mark.parametrize(
        ("seconds", "expected"), [(0.2, "0 s"), (119, "119 s"), (600, "10 min"), (9000, "2.5 h")]
    )
    def test_times(self, seconds: float, expected: str) -> None:
        assert f"up {expected}," in render_status(status(uptime_s=seconds))

    @pytest.mark.parametrize(
        ("size", "expected"), [(None, "-"), (1024, "1 KiB"), (3 << 30, "3.0 GiB")]
    )
    def test_sizes(self, size: int | None, expected: str) -> None:
        assert f", {expected} resident" in render_status(status(rss_bytes=size))


class TestModels:
    def document(self, **more: Any) -> dict[str, Any]:
        return {
            "name": "gate", "ready": True, "serving": 3, "fallback": False, "required": True,
            "aliases": {}, "releases": [release()],
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": []}],
            **more,
        }  # fmt: skip

    def test_ready(self) -> None:
        assert render_models([self.document(aliases={"old": 1, "live": 3})]) == (
            "gate: release 3 serves; aliases: old = 1, live = 3\n"
            "  in   x float32[batch,4]\n"
            "  out  y float32[]\n"
            "  release 3 (1.0) ready"
        )

    def test_not_ready_and_without_a_signature(self) -> None:
        model = self.document(serving=None, releases=[release(state="failed", reason="why")])
        assert "gate: NOT READY" in render_models([model])
        assert "  release 3 (1.0) failed: why" in render_models([model])
        bare = self.document(serving=None, releases=[])
        del bare["inputs"], bare["outputs"]
        assert render_models([bare]) == "gate: NOT READY"

    def test_the_last_good_one(self) -> None:
        text = render_models([self.document(fallback=True)])
        assert text.startswith("gate: release 3 serves (the last good one)\n")

    def test_none(self) -> None:
        assert render_models([]) == "no models are configured"


class TestDevice:
    def test_this_machine(self) -> None:
        document = device_document()
        text = render_device(document)
        assert text.startswith("cpu      ")
        assert "None" not in text
        assert "runtime  onnxruntime: " in text

    def test_nothing_is_known(self) -> None:
        cpu = {
            "model": None, "architecture": "aarch64", "cores": None, "frequency_hz": None,
            "features": [], "load_1min": None, "memory_total_bytes": None,
            "memory_available_bytes": None, "swap_total_bytes": None,
            "zones": [{"name": "soc", "temp_celsius": None}],
        }  # fmt: skip
        gpu = {
            "index": 0, "name": None, "memory_used_bytes": None, "memory_total_bytes": None,
        }  # fmt: skip
        document = {
            "cpu": cpu,
            "nvidia": {"problem": "", "driver": None, "gpus": [gpu]},
            "jetson": {"model": None, "l4t": None, "power_mode": None},
            "runtimes": [{"name": "x", "problem": "not installed", "version": "", "devices": []}],
        }
        assert render_device(document).splitlines() == [
            "cpu      -, aarch64, - cores",
            "memory   - available of -, swap -",
            "gpu 0    -, - used of -, driver -",
            "jetson   -, L4T -, mode -",
            "runtime  x: not installed",
        ]

    def test_what_to_know_of_a_runtime(self) -> None:
        document = device_document()
        known = {
            "name": "x",
            "problem": "",
            "version": "1",
            "devices": ["cpu"],
            "note": "so and so",
        }
        document["runtimes"] = [known]
        assert render_device(document).endswith("runtime  x: 1 on cpu; so and so")
        document["runtimes"] = [known | {"kinds": ["openvino", "onnx"], "package": "pack 1.0"}]
        want = "runtime  x: 1 on cpu, takes openvino, onnx, from pack 1.0; so and so"
        assert render_device(document).endswith(want)


def test_lines_of_ordinary_documents_fit_a_terminal() -> None:
    items = [release(model="wake-word-detector"), release(model="digits", state="draining")]
    texts = [
        render_status(status(releases=items)),
        render_models([]),
        render_device(device_document()),
    ]
    assert max(len(line) for text in texts for line in text.splitlines()) <= 120


def test_figures_of_bindings_that_are_all_zero_are_left_out() -> None:
    one = {"received": 3, "answered": 0, "expired": 0, "in_flight": 0, "gathered": 0}
    text = binding_table({"a": one, "b": one | {"gathered": 2}})
    assert text.splitlines()[0].split() == [
        "binding", "received", "answered", "in", "flight", "gathered",
    ]  # fmt: skip
    assert text.splitlines()[2].split() == ["b", "3", "0", "0", "2"]
