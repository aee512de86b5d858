"""What every source's result goes through in the tests: cleaned, named, run and judged."""

from converters import graph
from converters.parity import as_output, judge
from converters.session import open_session
from edged.manifest import Tolerance


def check(exported, *, rtol=1e-4, atol=1e-5):
    """The workflow's own steps from an export to its parity; returns what ONNX Runtime gave."""
    model = graph.clean(exported.model, 18)
    graph.rename(model, list(exported.inputs), list(exported.outputs))
    got = open_session(graph.serialize(model))(exported.inputs)
    expected = {name: as_output(name, array, got[name]) for name, array in exported.outputs.items()}
    label_of = {k: v for k, v in exported.label_of.items() if k in expected}
    judge(expected, got, Tolerance(rtol=rtol, atol=atol), label_of)
    return got
