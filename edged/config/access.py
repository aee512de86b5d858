"""Who may do what: rules by the peer's user and groups, and what one client may take at most."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import Meta

from edged.config.section import Section
from edged.specs import Size

Verb = Literal[
    "infer",
    "metadata",
    "status",
    "metrics",
    "shared_memory",
    "load",
    "unload",
    "reload",
    "promote",
    "rollback",
    "logging",
    "trace",
    "engines",
]
"""What can be asked for. All but the first five change something: they are an administrator's."""
Allowed = Literal[Verb, "admin"]

OPEN_VERBS = ("infer", "metadata", "status", "metrics", "shared_memory")
ADMIN_VERBS = tuple(verb for verb in get_args(Verb) if verb not in OPEN_VERBS)
MODEL_VERBS = ("infer", "metadata", "load", "unload", "promote", "rollback")
"""Asked of one model. All others are about the whole daemon, so about every model in it."""

User = Annotated[str, Meta(pattern=r"^(\*|[0-9]{1,10}|[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?)\Z")]
Group = Annotated[str, Meta(pattern=r"^([0-9]{1,10}|[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?)\Z")]
ModelPattern = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._*-]{1,64}\Z")]


Certificate = Annotated[str, Meta(min_length=1, max_length=256)]


class RuleConfig(Section, frozen=True, kw_only=True):
    """One thing that some clients may do; whoever is named by any of users, groups, … is meant."""

    users: Annotated[
        tuple[User, ...], Meta(description='names or numbers; "*" is every user of this device')
    ] = ()
    groups: Annotated[
        tuple[Group, ...], Meta(description="names or numbers; supplementary groups count")
    ] = ()
    tcp: Annotated[
        bool, Meta(description="whoever asks over TCP without a certificate, on any port")
    ] = False
    certificates: Annotated[
        tuple[Certificate, ...],
        Meta(description="client certificates by their common name; without one by URI:… or DNS:…"),
    ] = ()
    models: Annotated[
        tuple[ModelPattern, ...], Meta(description="names of models and pipelines; * is any text")
    ] = ("*",)
    allow: Annotated[
        tuple[Allowed, ...], Meta(description="verbs; admin stands for every administrator's verb")
    ]


class QuotaConfig(Section, frozen=True, kw_only=True):
    """What each of some clients may take at most; the first entry that names a client counts."""

    users: Annotated[
        tuple[User, ...], Meta(description='names or numbers; "*" is each user for itself')
    ] = ("*",)
    tcp: Annotated[
        bool, Meta(description="over TCP: each certificate for itself, all without one together")
    ] = False
    certificates: Annotated[
        tuple[Certificate, ...], Meta(description="each of these; named as in rules")
    ] = ()
    connections: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None,
        Meta(description="open at a time, over all sockets; null: no bound"),
    ] = None
    in_flight: Annotated[
        Size | None, Meta(description="bytes of the tensors of unanswered requests")
    ] = None
    requests_per_second: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        Meta(description="of every kind, on average; null: no bound"),
    ] = None
    burst: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        Meta(description="requests at once after a pause; null: those of one second"),
    ] = None
    regions: Annotated[
        Annotated[int, Meta(ge=0, le=65_536)] | None,
        Meta(description="of passed memory, over all connections; null: no bound of the user's"),
    ] = None


class AccessConfig(Section, frozen=True, kw_only=True):
    """Who may do what over the sockets, and how much of it."""

    rules: Annotated[
        tuple[RuleConfig, ...] | None,
        Meta(description="what is allowed; null: whoever may connect; []: nobody but root and us"),
    ] = None
    quotas: Annotated[
        tuple[QuotaConfig, ...], Meta(description="bounds of one client; none: those of limits")
    ] = ()
