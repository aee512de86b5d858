"""Strings and bfloat16 over the native socket, from models here and in a process of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edged.errors import EdgedError
from edged.strings import strings
from edged.tensors import BFLOAT16, from_bfloat16, to_bfloat16
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess
from tests.models import same

pytestmark = pytest.mark.slow

NUMBERS = np.float32([[1.5, -2.25, 2**-30], [0, 3, np.inf]])
BODY = """\
trust: {require_signatures: false}
models:
  text: {bundle: text-1.edgb, cache: {size: 1MiB}}
  brain: {bundle: brain-1.edgb}
  text-apart: {bundle: text-apart-1.edgb, isolation: model}
  brain-apart: {bundle: brain-apart-1.edgb, isolation: model}
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("special")
    for name in ("text", "text-apart"):
        make_bundle(folder / f"{name}-1.edgb", same("string"), name=name)
    for name in ("brain", "brain-apart"):
        make_bundle(folder / f"{name}-1.edgb", same("bfloat16"), name=name)
    daemon = DaemonProcess(folder)
    daemon.write(BODY)
    try:
        daemon.start()
        with daemon.client() as made:
            yield made
    finally:
        daemon.stop()


@pytest.mark.parametrize("model", ["text", "text-apart"])
def test_strings(client: Any, model: str) -> None:
    for words in (["a", "", "äöü"], ["a", "", "äö"], ["a", "", "äöü"], ["x" * 5000, "b", "c"]):
        wanted = [[word.encode() for word in words]]
        for array in (np.array([words]), np.array([words], object), strings(wanted[0], (1, 3))):
            assert client.infer(model, x=array)["y"].tolist() == wanted
    with pytest.raises(EdgedError, match="none of them is zero"):
        client.infer(model, x=strings([b"\xff", b"\0", b""], (1, 3)))
    with pytest.raises(EdgedError, match="no UTF-8"):
        client.infer(model, x=strings([b"\xff", b"", b""], (1, 3)))
    with pytest.raises(EdgedError, match='"x"'):
        client.infer(model, x=np.zeros((1, 3), np.float32))


@pytest.mark.parametrize("model", ["brain", "brain-apart"])
def test_bfloat16(client: Any, model: str) -> None:
    for rows in (1, 2):
        found = client.infer(model, x=to_bfloat16(NUMBERS[:rows]))["y"]
        assert found.dtype == BFLOAT16
        np.testing.assert_array_equal(from_bfloat16(found), NUMBERS[:rows])
    prepared = client.prepare(model, x=((None, 3), "bfloat16"))
    for rows in (1, 2, 1):
        found = prepared(to_bfloat16(NUMBERS[:rows]))["y"]
        np.testing.assert_array_equal(from_bfloat16(found), NUMBERS[:rows])
    with pytest.raises(EdgedError, match="uint16"):
        client.infer(model, x=np.zeros((1, 3), np.uint16))


def test_strings_are_not_prepared(client: Any) -> None:
    with pytest.raises(EdgedError, match='"x"'):
        client.prepare("text", x=((None, 3), object))
