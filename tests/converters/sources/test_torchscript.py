"""TorchScript that no exporter takes; what it takes is among the cases of test_torch."""

import importlib.util

import numpy as np
import pytest

import converters
from converters.errors import ConversionError, UnsupportedModelError

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None, reason="torch is not installed on this Python"
    ),
]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_operator_that_it_lacks_is_named(tmp_path):
    import torch

    class Qr(torch.nn.Module):
        def forward(self, image):
            return torch.linalg.qr(image)[1]

    example = torch.randn(3, 4, 4)
    torch.jit.trace(Qr(), example, check_trace=False).save(tmp_path / "qr.pt")
    np.savez(tmp_path / "s.npz", image=np.random.default_rng(0).normal(size=(9, 4, 4)))
    recipe = converters.Recipe(
        source=str(tmp_path / "qr.pt"), samples=str(tmp_path / "s.npz"), name="m", release=1
    )
    with pytest.raises(UnsupportedModelError, match=r"operator aten\.linalg_qr"):
        converters.convert(recipe, tmp_path / "m.edgb", trust=True)
    cut = (tmp_path / "qr.pt").read_bytes()[:-40]
    (tmp_path / "qr.pt").write_bytes(cut)
    with pytest.raises(ConversionError, match="cut short"):
        converters.convert(recipe, tmp_path / "m.edgb", trust=True)
    assert not (tmp_path / "m.edgb").exists()
