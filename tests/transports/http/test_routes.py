"""Paths: those of the protocol, and those that only look like them."""

from __future__ import annotations

import pytest

from edged.transports.http.routes import Page, route_of


@pytest.mark.parametrize(
    ("target", "page", "method", "model", "version"),
    [
        ("/v2", Page.SERVER, "GET", "", None),
        ("/v2?a=b", Page.SERVER, "GET", "", None),
        ("/v2/health/live", Page.LIVE, "GET", "", None),
        ("/v2/health/ready", Page.READY, "GET", "", None),
        ("/v2/models/stats", Page.STATS, "GET", "", None),
        ("/v2/models/m", Page.MODEL, "GET", "m", None),
        ("/v2/models/m%20n", Page.MODEL, "GET", "m n", None),
        ("/v2/models/m/versions/3", Page.MODEL, "GET", "m", "3"),
        ("/v2/models/m/ready", Page.MODEL_READY, "GET", "m", None),
        ("/v2/models/m/versions/3/ready", Page.MODEL_READY, "GET", "m", "3"),
        ("/v2/models/m/config", Page.CONFIG, "GET", "m", None),
        ("/v2/models/m/stats", Page.STATS, "GET", "m", None),
        ("/v2/models/m/infer", Page.INFER, "POST", "m", None),
        ("/v2/models/m/versions/3/infer?x", Page.INFER, "POST", "m", "3"),
        ("/v2/models/m/generate", Page.GENERATE, "POST", "m", None),
        ("/v2/models/m/versions/3/generate_stream", Page.GENERATE_STREAM, "POST", "m", "3"),
        ("/v2/repository/index", Page.INDEX, "POST", "", None),
        ("/v2/repository/models/m/load", Page.ADMIN, "POST", "m", None),
        ("/v2/repository/models/m%201/unload", Page.ADMIN, "POST", "m 1", None),
        ("/v2/logging", Page.ADMIN, "POST", "", None),
        ("/v2/models/m/trace/setting", Page.ADMIN, "GET", "m", None),
        ("/v2/systemsharedmemory/status", Page.SHARED, "GET", "", None),
        ("/v2/systemsharedmemory/region/r/register", Page.SHARED, "POST", "r", None),
        ("/v2/systemsharedmemory/region/a%20b/status", Page.SHARED, "GET", "a b", None),
        ("/v2/systemsharedmemory/unregister", Page.SHARED, "POST", "", None),
        ("/v2/cudasharedmemory/region/r/unregister", Page.CUDA, "POST", "r", None),
        ("/metrics", Page.METRICS, "GET", "", None),
    ],
)
def test_paths(target: str, page: Page, method: str, model: str, version: str | None) -> None:
    route = route_of(target)
    assert route is not None
    assert (route.page, route.model, route.version) == (page, model, version)
    assert method in route.methods


@pytest.mark.parametrize(
    "target",
    [
        "", "/", "*", "/v1", "/v2/", "/v2/models", "/v2/models/", "/v2/models/m/", "//v2",
        "/v2/models/m/versions/x", "/v2/models/m/versions/", "/v2/models/m/versions/-1",
        "/v2/models/m/versions/1/versions/2", "/v2/models/m/versions/" + "9" * 17,
        "/v2/models/m/infer/", "/v2/models/m/infer/x", "/v2/models/m/generate/stream", "/v2/models/m/versions/1/trace/setting",
        "/v2/models/" + "x" * 257, "/v2/repository/models/m/delete", "/v2/repository/models//load/x",
        "/v2/systemsharedmemory/register", "/v2/systemsharedmemory/region//register",
        "/v2/systemsharedmemory/regions/r/status", "/v2/systemsharedmemory/region/r",
        "/v2/systemsharedmemory/region/" + "x" * 257 + "/status",
        "/v2/systemsharedmemory", "/v2/systemsharedmemory/region/r/s/register", "/V2",
        "http://a/v2", "/v2/../v2/models/m", "/v2/models/../x/infer",
    ],
)  # fmt: skip
def test_anything_else(target: str) -> None:
    assert route_of(target) is None


@pytest.mark.hostile("B8 names with dots, NUL, percent signs and ten thousand letters")
@pytest.mark.parametrize("quoted", ["..%2f..%2fx", "%2e%2e", "a%00b", "%ff", "%"])
def test_a_name_is_only_a_name(quoted: str) -> None:
    route = route_of(f"/v2/models/{quoted}/infer")
    assert route is not None
    assert route.page is Page.INFER
    assert route.model not in ("", quoted.replace("%", "", 1)) or quoted == "%"
