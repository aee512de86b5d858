"""A pipeline's configuration as a graph that can run: order, places of values, types, conditions.

Pure but for the files of characters that steps name. Everything that can be known before a request
comes is decided and refused here: ``edged check`` and a reload ask the same question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from edged.config.pipeline import PipelineConfig, StepConfig
from edged.config.problems import did_you_mean, field_path
from edged.errors import FieldError
from edged.manifest import Manifest, ManifestOf
from edged.pipelines.expressions import type_of_tree
from edged.pipelines.grammar import Tree, parse, references
from edged.pipelines.graph import Member, Node, Plan, followers_of, split_member
from edged.pipelines.kinds import Resolve, check_kind, make_work, named_inputs
from edged.pipelines.labels import Label, bundle_labels
from edged.pipelines.step import Work
from edged.pipelines.streamed import check_names, plan_stream
from edged.pipelines.types import ValueType, bind_call, parse_type, result_shape, type_of
from edged.tensors import TensorSpec

Found = tuple[str, str]
"""A field path and what is wrong with it."""


def plan_pipeline(
    name: str,
    config: PipelineConfig,
    manifest_of: ManifestOf,
    resolve: Resolve,
    made: Mapping[str, Work] | None = None,
) -> tuple[Plan | None, list[Found]]:
    """Plan a pipeline.

    Args:
        name: its name.
        config: what the operator wrote.
        manifest_of: the manifest of the release that will answer for a model; None when there is
            none, which has been complained about already.
        resolve: paths in the configuration.
        made: by step, its work in an earlier plan; its files are not read again.

    Returns:
        The plan, or None; and every problem.
    """
    planner = _Planner(name, config, manifest_of, resolve)
    planner.made = made or {}
    plan = planner.plan()
    if config.stream and plan is not None:
        try:
            check_names(config.stream, config.outputs)
            if not planner.problems and len(plan.results) == len(config.outputs):
                plan = replace(plan, streamed=plan_stream(plan))
        except FieldError as exc:
            planner.problems.append((f"{field_path('pipelines', name)}.{exc.path}", exc.reason))
    return (None if planner.problems else plan), planner.problems


@dataclass(slots=True)
class _Draft:
    """A step on its way."""

    index: int
    config: StepConfig
    path: str
    reads: Mapping[str, str]
    work: Work | None = None
    member: Member | None = None
    manifest: Manifest | None = None
    when: Tree | None = None

    @property
    def uses(self) -> list[str]:
        """Every reference, those of the condition too."""
        return [*self.reads.values(), *(references(self.when) if self.when is not None else ())]


class _Value(NamedTuple):
    slot: int
    type: ValueType
    maker: int
    """The node's place in the order; -1 for an input of the pipeline."""


class _Planner:
    def __init__(
        self, name: str, config: PipelineConfig, manifest_of: ManifestOf, resolve: Resolve
    ) -> None:
        self.problems: list[Found] = []
        self.made: Mapping[str, Work] = {}
        self._name, self._config = name, config
        self._path = field_path("pipelines", name)
        self._manifest_of, self._resolve = manifest_of, resolve
        self._values: dict[str, _Value] = {}
        self._outputs: dict[str, list[str]] = {}
        self._main: dict[str, str] = {}
        self._unknown: set[str] = set()
        self._nodes: list[Node] = []
        self._slots = 0

    def plan(self) -> Plan | None:
        inputs = self._inputs()
        drafts = self._drafts()
        for draft in self._ordered(drafts):
            try:
                self._add(draft)
            except FieldError as exc:
                self._complain(draft, exc)
        outputs, results = self._results()
        members = {d.member: d.manifest for d in drafts.values() if d.member and d.manifest}
        if not any(step.model for step in self._config.steps):
            self.problems.append((f"{self._path}.steps", "ask no model; add a step with model:"))
        nodes = tuple(self._nodes)
        fresh = frozenset(slot for n in nodes if n.member is not None for _, slot in n.writes)
        return Plan(
            self._name, self._config, nodes, inputs, outputs, results, self._slots,
            tuple(members), tuple(members.values()), followers_of(nodes), fresh,
        )  # fmt: skip

    def _inputs(self) -> tuple[TensorSpec, ...]:
        specs = []
        for name, text in self._config.inputs.items():
            try:
                kind = parse_type(text, field_path(f"{self._path}.inputs", name))
            except FieldError as exc:
                self.problems.append((exc.path, exc.reason))
                self._unknown.add(name)
                continue
            specs.append(kind.spec(name))
            self._values[name] = _Value(self._slots, kind, -1)
            self._slots += 1
        return tuple(specs)

    def _drafts(self) -> dict[str, _Draft]:
        drafts: dict[str, _Draft] = {}
        for index, step in enumerate(self._config.steps):
            draft = _Draft(index, step, f"{self._path}.steps[{index}]", {})
            taken = step.name in drafts or step.name in self._unknown
            if taken or step.name in self._config.inputs:
                text = f'"{step.name}" is the name of another step or input; names are unique'
                self.problems.append((f"{draft.path}.name", text))
                continue
            try:
                self._prepare(draft)
            except FieldError as exc:
                self._complain(draft, exc)
            else:
                drafts[step.name] = draft
        return drafts

    def _complain(self, draft: _Draft, error: FieldError) -> None:
        path = f"{draft.path}.{error.path}" if error.path else draft.path
        self.problems.append((path, error.reason))
        self._unknown.add(draft.config.name)

    def _prepare(self, draft: _Draft) -> None:
        """What can be said of a step by itself."""
        step = draft.config
        check_kind(step)
        if step.when is not None:
            draft.when = parse(step.when, "when")
        if step.model is None:
            made = self.made.get(step.name)
            draft.work = made or make_work(step, self._resolve, self._labels_of)
            draft.reads = draft.work.reads
            return
        member = split_member(step.model)
        manifest = self._manifest_of(*member)
        if manifest is None:
            self._unknown.add(step.name)
            draft.reads = named_inputs(step)
            draft.member = member
            return
        specs = manifest.input_specs()
        known = [spec.name for spec in specs]
        if isinstance(step.inputs, str) and len(specs) > 1:
            listed = ", ".join(known)
            raise FieldError(
                "inputs", f'model "{member.model}" takes {listed}; write input: reference for each'
            )
        draft.reads = named_inputs(step, known[0])
        for name in draft.reads:
            if name not in known:
                listed = ", ".join(f'"{spec.name}" {spec}' for spec in specs)
                near = did_you_mean(name, known)
                raise FieldError(
                    f"inputs.{name}",
                    f'model "{member.model}" has no input "{name}"{near}; it takes {listed}',
                )
        if missing := [spec for spec in specs if spec.name not in draft.reads]:
            wanted = f'"{missing[0].name}" {missing[0]}'
            raise FieldError(
                "inputs", f'model "{member.model}" also takes {wanted}; say from where'
            )
        draft.member, draft.manifest = member, manifest

    def _labels_of(self, reference: str) -> list[Label] | None:
        return bundle_labels(reference, self._config, self._manifest_of)

    def _step_of(self, reference: str) -> str:
        """The step that a reference names; empty for an input of the pipeline."""
        return "" if reference in self._config.inputs else reference.partition(".")[0]

    def _ordered(self, drafts: dict[str, _Draft]) -> list[_Draft]:
        """Steps after those that they use; steps that wait for each other are a problem."""
        done = {"", *self._unknown}
        waiting = list(drafts.values())
        ordered: list[_Draft] = []
        for draft in waiting:
            done |= {self._step_of(ref) for ref in draft.uses} - drafts.keys()
        while waiting:
            possible = [d for d in waiting if all(self._step_of(ref) in done for ref in d.uses)]
            if not possible:
                names = ", ".join(draft.config.name for draft in waiting)
                text = f"wait for each other: {names}; a step cannot use what follows from it"
                self.problems.append((f"{self._path}.steps", text))
                self._unknown |= {draft.config.name for draft in waiting}
                break
            ordered += possible
            done |= {draft.config.name for draft in possible}
            waiting = [draft for draft in waiting if draft not in possible]
        return ordered

    def _find(self, reference: str, path: str) -> _Value | None:
        """The value that a reference names; None when what makes it has problems of its own.

        Raises:
            FieldError: there is none; at ``path``.
        """
        step = self._step_of(reference)
        if step in self._unknown or (not step and reference in self._unknown):
            return None
        outputs = self._outputs.get(step)
        if outputs is not None and reference == step:
            if main := self._main[step]:
                return self._values[f"{step}.{main}"]
            listed = ", ".join(f"{step}.{name}" for name in outputs)
            raise FieldError(path, f'step "{step}" makes several; write one of {listed}')
        value = self._values.get(reference)
        if value is None:
            known = [*self._config.inputs, *(s.name for s in self._config.steps), *self._values]
            near = did_you_mean(reference, known)
            if outputs is not None:
                listed = ", ".join(outputs)
                text = f'step "{step}" makes no "{reference[len(step) + 1 :]}"; it makes {listed}'
                raise FieldError(path, text + near)
            listed = ", ".join(dict.fromkeys(name.partition(".")[0] for name in known))
            raise FieldError(path, f'nothing is named "{reference[:64]}"{near}; there are {listed}')
        return value

    def _add(self, draft: _Draft) -> None:
        """Type a step whose values are known, and make its node.

        Raises:
            FieldError: at a path inside the step.
        """
        step = draft.config
        found = {name: self._find(ref, _place(draft, name)) for name, ref in draft.reads.items()}
        wanted = references(draft.when) if draft.when is not None else ()
        asked = {ref: self._find(ref, "when") for ref in wanted}
        if step.name in self._unknown or None in (*found.values(), *asked.values()):
            self._unknown.add(step.name)
            return
        values = {name: value for name, value in found.items() if value is not None}
        conditions = {name: value for name, value in asked.items() if value is not None}
        mode = draft.work.mode if draft.work is not None else "map"
        items = self._items(draft, mode, values)
        self._check_condition(draft, conditions, items)
        promised = self._promised(draft, values)
        maybe = _maybe(step, mode, (*values.values(), *conditions.values()))
        made = {"spread": step.name, "gather": ""}.get(mode, items)
        writes = []
        place = len(self._nodes)
        for spec in promised:
            kind = replace(type_of(spec), each=made, maybe=maybe)
            self._values[f"{step.name}.{spec.name}"] = _Value(self._slots, kind, place)
            writes.append((spec.name, self._slots))
            self._slots += 1
        names = [spec.name for spec in promised]
        self._outputs[step.name] = names
        named = draft.work.main if draft.work is not None else ""
        self._main[step.name] = named or (names[0] if len(names) == 1 else "")
        makers = {value.maker for value in (*values.values(), *conditions.values())} - {-1}
        is_each = bool(items) and mode in ("map", "first")
        self._nodes.append(
            Node(
                step.name,
                draft.member,
                draft.work,
                tuple((name, value.slot) for name, value in values.items()),
                tuple(writes),
                promised,
                frozenset(n for n, value in values.items() if value.type.each and is_each),
                draft.when,
                tuple((name, value.slot) for name, value in conditions.items()),
                step.default,
                tuple(sorted(makers)),
            )
        )

    def _items(self, draft: _Draft, mode: str, values: Mapping[str, _Value]) -> str:
        """The fan-out that a step is part of; empty when it is done once."""
        sources = {value.type.each for value in values.values()} - {""}
        for name, value in values.items():
            if mode == "spread" and value.type.each:
                text = f"is {value.type}; a fan-out inside another cannot be done"
                raise FieldError(_place(draft, name), text)
            if mode == "gather" and not value.type.each:
                text = f"is {value.type}, one tensor already; gather is for what follows a crop"
                raise FieldError(_place(draft, name), text)
            if mode == "gather" and value.type.maybe:
                text = f'may be missing, because step "{value.type.maybe}" has when'
                raise FieldError(_place(draft, name), f"{text}; give it a default or use first")
        if len(sources) > 1:
            listed = " and of ".join(f'"{name}"' for name in sorted(sources))
            raise FieldError("", f"would be done for each item of {listed}, which do not pair")
        return next(iter(sources), "")

    def _check_condition(self, draft: _Draft, asked: Mapping[str, _Value], items: str) -> None:
        if draft.when is None:
            return
        kind = type_of_tree(draft.when, {name: value.type for name, value in asked.items()}, "when")
        if kind.dtype != "bool" or kind.shape:
            raise FieldError(
                "when", f"is {kind.alone()}; expected one truth, as any(…), max(…) > 0.5"
            )
        if kind.each and kind.each != items:
            text = f'is asked for each item of "{kind.each}", but the step is not done for each'
            raise FieldError("when", text)

    def _promised(self, draft: _Draft, values: Mapping[str, _Value]) -> tuple[TensorSpec, ...]:
        step = draft.config
        given = {name: value.type.alone() for name, value in values.items()}
        if draft.manifest is not None and draft.member is not None:
            owner = f'model "{draft.member.model}"'
            try:
                bound = bind_call(owner, draft.manifest.input_specs(), given)
            except FieldError as exc:
                raise FieldError(_place(draft, exc.path), exc.reason) from None
            made: Sequence[TensorSpec] = draft.manifest.output_specs()
        else:
            assert draft.work is not None
            made = draft.work.outputs({name: kind.spec(name) for name, kind in given.items()})
            axes = {axis for kind in given.values() for axis in kind.shape if isinstance(axis, str)}
            bound = {axis: axis for axis in axes}
        return tuple(
            TensorSpec(spec.name, spec.dtype, result_shape(spec.shape, bound, step.name))
            for spec in made
        )

    def _results(self) -> tuple[tuple[TensorSpec, ...], tuple[int, ...]]:
        specs, slots = [], []
        for name, reference in self._config.outputs.items():
            path = field_path(f"{self._path}.outputs", name)
            try:
                value = self._find(reference, path)
            except FieldError as exc:
                self.problems.append((exc.path, exc.reason))
                continue
            if value is None:
                continue
            if value.type.each:
                text = f"is {value.type}; put them together with a gather step"
                self.problems.append((path, text))
            elif value.type.maybe:
                text = f'may be missing, because step "{value.type.maybe}" has when'
                self.problems.append((path, f"{text}; give it a default, or join with first"))
            specs.append(value.type.spec(name))
            slots.append(value.slot)
        return tuple(specs), tuple(slots)


def _place(draft: _Draft, argument: str) -> str:
    """Where a step says what an argument reads, as a path inside it."""
    step = draft.config
    kind = step.kinds[0]
    if kind in ("model", "use"):
        return "inputs" if isinstance(step.inputs, str) else field_path("inputs", argument)
    if kind == "compute":
        return kind
    if kind == "first":
        return f"first[{argument}]"
    return f"concat.from[{argument}]" if kind == "concat" else f"{kind}.{argument}"


def _maybe(step: StepConfig, mode: str, values: Sequence[_Value]) -> str:
    """The step that may be skipped so that this one makes nothing; empty when it always does."""
    if step.default is not None:
        return ""
    if step.when is not None:
        return step.name
    missing = [value.type.maybe for value in values]
    if mode == "first" and "" in missing:
        return ""
    return next(filter(None, missing), "")
