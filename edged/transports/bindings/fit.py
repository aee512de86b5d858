"""A binding that puts inputs together, fitted to a release: codecs of the parts, and how they join.

Decides at check time whether the parts can be an input of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edged.config.binding import BindingConfig
from edged.errors import FieldError
from edged.manifest import Manifest
from edged.processing.columns import Parse
from edged.processing.latest import LatestRule
from edged.processing.narrow import for_columns, for_windows
from edged.processing.window import WindowRule
from edged.specs import FieldSpec
from edged.tensors import DTYPES, Array
from edged.transports.bindings.payload_codecs import PayloadCodecs

_MOST_BYTES = 64 << 20


class WindowFit(NamedTuple):
    """How rows of messages become an input.

    Args:
        name: of the input.
        whole: its shape, for one window.
    """

    name: str
    whole: tuple[int, ...]
    rule: WindowRule


class JoinFit(NamedTuple):
    """How columns of several topics become an input; each by the place of its topic.

    Args:
        name: of the input.
        codecs: of the joined topics' messages.
        rules: for their latest columns.
        defaults: what stands in where there are none; None where that is an error.
    """

    name: str
    codecs: tuple[PayloadCodecs, ...]
    rules: tuple[LatestRule, ...]
    defaults: tuple[Array | None, ...]


def fit_window(
    config: BindingConfig, manifest: Manifest, parser: Parse | None = None, cap: int = _MOST_BYTES
) -> tuple[PayloadCodecs, WindowFit]:
    """A codec of rows, and how they become windows.

    Raises:
        FieldError: they cannot.
    """
    window = config.window
    assert window is not None
    narrow, shape = for_windows(manifest, window.rows, config.input)
    codecs = PayloadCodecs(config, narrow, parser, cap)
    rule = WindowRule(
        window.rows, window.hop or window.rows, int(window.gap or 0), shape.row, shape.dtype,
        f"{config.codec} {config.fields}",
    )  # fmt: skip
    return codecs, WindowFit(shape.name, shape.whole, rule)


def fit_join(
    config: BindingConfig, manifest: Manifest, parser: Parse | None = None, cap: int = _MOST_BYTES
) -> tuple[PayloadCodecs, JoinFit]:
    """A codec of the binding's own columns, and how the others join them.

    Raises:
        FieldError: they cannot.
    """
    columns = (config.fields, *(one.fields for one in config.join))
    name, parts = for_columns(manifest, config.input, tuple(map(len, columns)))
    codecs = []
    for index, (fields, part) in enumerate(zip(columns, parts, strict=True)):
        try:
            codecs.append(PayloadCodecs(config, part, parser, cap, fields))
        except FieldError as exc:
            where = f"join[{index - 1}].{exc.path}" if index else exc.path
            raise FieldError(where, exc.reason) from exc
    dtype = parts[0].input_specs()[0].dtype
    rules = tuple(
        LatestRule(len(one.fields), dtype, int(one.max_age or 0), f"{one.from_} {one.fields}")
        for one in config.join
    )
    defaults = tuple(_defaults(one.fields, dtype) for one in config.join)
    return codecs[0], JoinFit(name, tuple(codecs[1:]), rules, defaults)


def _defaults(fields: Sequence[str | FieldSpec], dtype: str) -> Array | None:
    values = [one.default if isinstance(one, FieldSpec) else None for one in fields]
    if None in values:
        return None
    return np.array(values).astype(DTYPES[dtype].numpy)
