"""Bindings that join topics: the columns of some come with the message of another.

A message on a joined topic ends as ``gathered``: its columns are the latest of its topic, and it is
acknowledged when they are safe. A message on ``from`` is a request like any other, but that the
latest columns of the joined topics stand behind its own; where one has none that is young enough,
it is a dead letter that says so.
"""

from __future__ import annotations

import numpy as np

from edged.errors import InvalidRequestError
from edged.outbox.age import now
from edged.processing.codecs import Codec
from edged.processing.latest import LatestRow
from edged.tensors import Array
from edged.transports.bindings.binding import Compiled
from edged.transports.bindings.fit import JoinFit
from edged.transports.bindings.keyed_states import Shelf
from edged.transports.bindings.time_left import has_expired
from edged.transports.bindings.work import Job


class _Joins(Job):
    """What both kinds of message share."""

    def _shelf(self, index: int) -> Shelf[LatestRow]:
        part = self._config.join[index]
        return self._outlet.states.shelf(
            f"{self._binding.name}/{index}",
            max_keys=part.max_keys, max_bytes=0, is_kept=part.keep == "disk",
        )  # fmt: skip

    @property
    def _fitted(self) -> JoinFit:
        compiled = self._compiled
        assert compiled is not None
        assert compiled.join is not None
        return compiled.join


class JoinJob(_Joins):
    """A request; arguments as for Job."""

    def _ask(self, inputs: dict[str, Array]) -> None:
        fit = self._fitted
        own = inputs[fit.name]
        columns = [own]
        for index in range(len(fit.rules)):
            row = self._latest(index)
            columns.append(np.broadcast_to(row, (len(own), len(row))))
        super()._ask({fit.name: np.concatenate(columns, axis=1)})

    def _latest(self, index: int) -> Array:
        fit = self._fitted
        rule, default = fit.rules[index], fit.defaults[index]
        found = self._shelf(index).get(self._joined[index], rule)
        if found is not None and rule.counts(found, now()):
            return found.row
        if default is not None:
            return default
        what = "has sent nothing yet" if found is None else "is older than its max_age"
        raise InvalidRequestError(
            f'the latest of "{self._config.join[index].from_}" that goes with this message {what}'
        )


class PartJob(_Joins):
    """A message on a joined topic; arguments as for Job."""

    def _begin(self) -> None:
        self._decode()

    def _codec_of(self, compiled: Compiled) -> Codec:
        assert compiled.join is not None
        return compiled.join.codecs[self._part].choose(self._message.content_type)

    def _submit(self, inputs: dict[str, Array]) -> None:
        if not self._is_wanted():
            return
        if has_expired(self._message):
            self._expire()
            return
        fit, index = self._fitted, self._part
        rule = fit.rules[index]
        latest = LatestRow(inputs[fit.name][-1].copy(), now(), rule.mark)
        self._counters.gathered += 1
        kept = self._finish if self._message.qos else None
        self._shelf(index).put(self._key, latest, latest.row.nbytes, rule.pack(latest), kept)
        if kept is None:
            self._finish()
