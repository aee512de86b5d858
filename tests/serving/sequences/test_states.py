"""States taken out of a signature: shapes, what cannot be, and where the rows are."""

from __future__ import annotations

import numpy as np
import pytest

from edged.config.sequence import SequenceConfig
from edged.errors import FieldError, RunError
from edged.manifest import canonical_json, parse_manifest
from edged.serving.sequences.states import RowsFirst, StateTensor, axes_of, plan_states
from tests.bundles import make_manifest as make_real
from tests.fakes.manifests import make_manifest
from tests.fakes.stateful import load
from tests.models import remembering

X, Y = ("x", "float32", ("batch", 3)), ("y", "float32", ("batch", 1))
H, NEXT = ("h", "float32", (2, "batch", 3)), ("hN", "float32", (2, "batch", 3))


def plan(inputs, outputs, **state):
    return plan_states(make_manifest(inputs, outputs), SequenceConfig(state=state or {"h": "hN"}))


def test_two_signatures():
    layout = plan([X, H], [Y, NEXT])
    assert layout.tensors == (StateTensor("h", "hN", "float32", (2, 3), 1),)
    assert [entry.name for entry in layout.seen.inputs + layout.seen.outputs] == ["x", "y"]
    assert [entry.shape for entry in layout.whole.inputs] == [("batch", 3), ("batch", 2, 3)]
    assert layout.whole.is_row_wise
    assert layout.has_rows
    assert layout.size_bytes(4) == 4 * 2 * 3 * 4
    assert layout.fresh(2)["h"].shape == (2, 2, 3)
    assert not layout.fresh(2)["h"].any()


def test_a_state_without_rows_is_not_stacked():
    fixed = ("h", "float32", (1, 3)), ("hN", "float32", (1, 3))
    layout = plan([("x", "float32", (1, 3)), fixed[0]], [("y", "float32", (1, 1)), fixed[1]])
    assert layout.tensors[0].axis is None
    assert not layout.whole.is_row_wise
    assert not layout.has_rows
    assert layout.size_bytes(4) == 12
    assert axes_of(layout) == ((), ())
    assert layout.signature != plan([X, H], [Y, NEXT]).signature


def test_what_clients_see_is_a_whole_manifest():
    manifest, _ = make_real(remembering())
    seen = plan_states(manifest, SequenceConfig(state={"h": "hN"})).seen
    assert parse_manifest(canonical_json(seen)) == seen
    assert seen.golden is None


@pytest.mark.parametrize(
    ("inputs", "outputs", "state", "path", "words"),
    [
        ([X, H], [Y, NEXT], {"g": "hN"}, "state.g", 'no input "g"; it has: "x", "h"'),
        ([X, H], [Y, NEXT], {"h": "g"}, "state.h", 'no output "g"; it has: "y", "hN"'),
        ([X, H], [Y, NEXT], {"h": "y"}, "state.h", "dtype and shape must be the same"),
        ([X, H], [Y, NEXT], {"x": "y", "h": "hN"}, "state.x", "must be the same"),
        ([H], [Y, NEXT], {"h": "hN"}, "state", "takes every input"),
        ([X, H], [NEXT], {"h": "hN"}, "state", "takes every output"),
        (
            [X, ("h", "float32", ("batch", "past"))],
            [Y, ("hN", "float32", ("batch", "past"))],
            {"h": "hN"}, "state.h", "only the rows may be free",
        ),
        (
            [X, ("h", "int64", (2, "batch", 3))], [Y, NEXT],
            {"h": "hN"}, "state.h", 'takes int64[2,batch,3], and "hN" gives float32[2,batch,3]',
        ),
    ],
)  # fmt: skip
def test_what_cannot_be(inputs, outputs, state, path, words):
    with pytest.raises(FieldError) as caught:
        plan(inputs, outputs, **state)
    assert caught.value.path == path
    assert words in caught.value.reason


def test_the_next_states():
    layout = plan([X, H], [Y, NEXT])
    given = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    batch = np.concatenate([given, given + 100])
    (state,) = layout.taken({"y": given, "hN": batch[:2]}, 2, "model").values()
    assert (state == given).all()
    assert state.base is None, "a view would keep the batch alive"
    for wrong in (batch[:1], batch[:2, :, :2], batch[:2].astype("float64")):
        with pytest.raises(RunError, match="its next state is"):
            layout.taken({"hN": wrong}, 2, "model")
    with pytest.raises(RunError, match='no output "hN"'):
        layout.taken({}, 2, "model")


def test_a_session_with_the_rows_first():
    model = remembering()
    manifest, _ = make_real(model)
    axes = axes_of(plan_states(manifest, SequenceConfig(state={"h": "hN"})))
    session = load(model)
    moved = RowsFirst(session, axes)
    inputs, wanted = model.golden(4)
    got = moved.run({**inputs, "h": np.moveaxis(inputs["h"], 1, 0).copy()})
    np.testing.assert_allclose(got["y"], wanted["y"], rtol=1e-6)
    np.testing.assert_allclose(got["hN"], np.moveaxis(wanted["hN"], 1, 0), rtol=1e-6)
    assert moved.bind({}, {}) is None
    assert moved.inputs is session.inputs
    moved.close()
    with pytest.raises(RunError):
        moved.run(inputs)
