"""What to put in the place of an operator that no runtime of a bundle knows. A table, no logic."""

from __future__ import annotations

ANYTHING = (
    "replace those layers in the model by ones made of standard operators, or export without the "
    "optimisation that fused them"
)
REWRITES = {
    "Erfc": "it is 1 - Erf(x): use gelu(approximate=True), or 1 - erf(x)",
    "LookupTableFindV2": "encode text before the model and feed it the numbers",
    "LookupTableFind": "encode text before the model and feed it the numbers",
    "StaticRegexReplace": "clean and split text before the model",
    "RegexReplace": "clean and split text before the model",
    "StringSplitV2": "clean and split text before the model",
    "StringLower": "clean and split text before the model",
    "StatelessRandomUniformV2": "leave augmentation layers out, or call with training=False",
    "StatelessRandomUniform": "leave augmentation layers out, or call with training=False",
    "StatelessRandomGetKeyCounter": "leave augmentation layers out, or call with training=False",
    "ImageProjectiveTransformV3": "leave augmentation layers out, or call with training=False",
    "RandomShuffle": "leave shuffling out of the model",
    "Bucketize": "use comparisons and a sum, or bin before the model",
    "DeformConv": "use grid_sample and an ordinary convolution",
    "ImageDecoder": "decode pictures before the model; a binding does it (--image)",
    "EPContext": "it names a compiled blob of one machine; bring the model from before compiling",
    "PyOp": "it is Python code; write the step with standard operators",
    "ZipMap": "set zipmap=False, or cut the last node: clients read tensors, not dictionaries",
}
"""Operator as exporters write it: the rewrite that is known to work."""


def advice_for(operator: str) -> str:
    """The known rewrite, or what always helps."""
    return REWRITES.get(operator, ANYTHING)
