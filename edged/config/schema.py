"""The configuration an operator writes, as frozen structs. Loading is ``load.py``.

Each field's description says its unit and the reason of its default; ``edged check --explain``
prints them. Nothing here reads a file or knows a line number.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edged.config.access import AccessConfig
from edged.config.binding import BindingConfig
from edged.config.brokers import BrokerName, NamedBrokerConfig
from edged.config.cache import CacheConfig
from edged.config.engines import EnginesConfig
from edged.config.environment import VariableName
from edged.config.feed import FeedConfig
from edged.config.generation import GenerationConfig
from edged.config.inbox import InboxConfig
from edged.config.listen import ListenConfig
from edged.config.memory import MemoryConfig, ModelMemoryConfig
from edged.config.mqtt import MqttConfig
from edged.config.pipeline import PipelineConfig
from edged.config.preference import FallbackPolicy, RuntimeName
from edged.config.reload import ReloadConfig
from edged.config.rollout import RolloutConfig
from edged.config.section import ModelName, Path, Section
from edged.config.sequence import SequenceConfig
from edged.config.sources import PullReference, SourceConfig, SourceName
from edged.config.store import StoreConfig
from edged.manifest import Label, LabelValue
from edged.specs import Duration, Size


class TrustConfig(Section, frozen=True, kw_only=True):
    """Whose bundles are accepted."""

    require_signatures: Annotated[
        bool, Meta(description="refuse bundles without enough trusted signatures")
    ] = True
    keys: Annotated[
        tuple[Path, ...], Meta(description="files with Ed25519 public keys made by edged-convert")
    ] = ()
    threshold: Annotated[int, Meta(ge=1, le=16, description="distinct keys that must sign")] = 1
    max_leap: Annotated[
        int,
        Meta(
            ge=0,
            lt=2**53,
            description="how far above the newest release of a model an installed one may be, or "
            "twice that release; 0 = any; what is signed by mistake stays in the way of the next",
        ),
    ] = 1_000_000
    root: Annotated[
        Path | None,
        Meta(
            description="instead of keys and threshold: the first trust document of edged-convert; "
            "later ones come by edged trust apply or the inbox"
        ),
    ] = None

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that the section names."""
        return self.keys if self.root is None else (*self.keys, self.root)


class LimitsConfig(Section, frozen=True, kw_only=True):
    """Bounds that protect the device; each refuses, none drops silently."""

    max_request: Annotated[
        Size, Meta(description="bytes of one request; a 4K RGB frame has 24 MiB")
    ] = Size(64 << 20)
    max_in_flight: Annotated[
        int, Meta(ge=1, le=65536, description="unanswered requests of one connection")
    ] = 1024
    frame_timeout: Annotated[
        Duration,
        Meta(description="a frame over the socket that is not whole after this closes the client"),
    ] = Duration(10_000_000_000)
    max_unread: Annotated[
        Size,
        Meta(description="bytes of answers that one client may leave unread before it is closed"),
    ] = Size(64 << 20)
    stream_wait: Annotated[
        Duration,
        Meta(
            description="a request that gets several answers is ended when its asker takes none "
            "for so long; it keeps its models loaded meanwhile"
        ),
    ] = Duration(60_000_000_000)
    max_regions: Annotated[
        int,
        Meta(ge=0, le=64, description="regions of memory that one connection may lend; 0 for none"),
    ] = 16
    max_shared: Annotated[
        Size,
        Meta(
            description="bytes of the memory that one connection may lend; a 4K RGB frame has "
            "24 MiB"
        ),
    ] = Size(256 << 20)
    inline_threshold: Annotated[
        Duration,
        Meta(description="faster models run on the event loop; a thread costs 40 us more"),
    ] = Duration(200_000)
    busy_wait: Annotated[
        Duration,
        Meta(
            description="how long to wait awake for the next request of a client that is alone; "
            "waking a core takes longer than a small model; over gRPC three times as long; at most "
            "1ms, 0 to sleep at once",
        ),
    ] = Duration(100_000)
    share_core: Annotated[
        bool,
        Meta(
            description="stay on the core of a client that is alone, passes large memory and says "
            "that it waits there"
        ),
    ] = True


class RuntimeConfig(Section, frozen=True, kw_only=True):
    """Settings shared by all models of the process."""

    threads: Annotated[
        int, Meta(ge=0, le=256, description="threads of one run; 0 = one for each core")
    ] = 0


class ReservedConfig(Section, frozen=True, kw_only=True):
    """Slots that the classes below leave free, so that a run of this one begins at once."""

    high: Annotated[int, Meta(ge=0, le=63, description="kept from normal and low")] = 0
    normal: Annotated[int, Meta(ge=0, le=63, description="kept from low")] = 0


class WeightsConfig(Section, frozen=True, kw_only=True):
    """Shares of the time of runs, where ``policy`` is weighted and several classes want it."""

    high: Annotated[int, Meta(ge=1, le=1000, description="share of class high")] = 8
    normal: Annotated[int, Meta(ge=1, le=1000, description="share of class normal")] = 4
    low: Annotated[int, Meta(ge=1, le=1000, description="share of class low")] = 1


class SchedulingConfig(Section, frozen=True, kw_only=True):
    """Which model's run begins next on a device; runs on the event loop take no slot."""

    slots: Annotated[
        int,
        Meta(ge=0, le=64, description="runs at once on each device; 0 = one for each core"),
    ] = 0
    reserved: ReservedConfig = ReservedConfig()
    policy: Annotated[
        Literal["strict", "weighted"],
        Meta(description="strict: a higher class goes first; weighted: by shares of time"),
    ] = "strict"
    weights: WeightsConfig = WeightsConfig()
    starvation: Annotated[
        Duration,
        Meta(description="a model that waited so long for its turn goes before higher classes"),
    ] = Duration(1_000_000_000)


class TrialConfig(Section, frozen=True, kw_only=True):
    """The first run of a new release, in a process of its own, before it may serve."""

    enabled: Annotated[
        bool, Meta(description="off: a release that crashes takes the daemon along, at most twice")
    ] = True
    memory: Annotated[
        Size | None,
        Meta(description="most private memory, added up where shared; default: half of all"),
    ] = None
    timeout: Annotated[
        Duration, Meta(description="for loading, and for each run; a busy device needs patience")
    ] = Duration(120_000_000_000)
    window: Annotated[
        Duration,
        Meta(description="serving time until a death of the daemon is not blamed on it any more"),
    ] = Duration(60_000_000_000)


class LogConfig(Section, frozen=True, kw_only=True):
    """What is written to stderr."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="least severe that is written; debug adds one line for each request"),
    ] = "info"


class BatchingConfig(Section, frozen=True, kw_only=True):
    """How requests of one release share a run."""

    max_batch: Annotated[
        int, Meta(ge=1, le=65536, description="most rows in one run; fewer when more gain nothing")
    ] = 32
    max_queue_delay: Annotated[
        Duration, Meta(description="how long a run may wait for company; 0 = never waits")
    ] = Duration(0)
    instances: Annotated[
        int,
        Meta(ge=0, le=64, description="runs at once; 0 = one, in the daemon one a core if it pays"),
    ] = 0


class QueueConfig(Section, frozen=True, kw_only=True):
    """What may wait for one release."""

    max_rows: Annotated[
        int, Meta(ge=1, le=10**6, description="rows that may wait; more are refused")
    ] = 1024
    max_size: Annotated[Size, Meta(description="bytes of the waiting tensors")] = Size(256 << 20)


class WorkerConfig(Section, frozen=True, kw_only=True):
    """What the process of a model with ``isolation: model`` or ``device`` may take."""

    memory: Annotated[
        Size | None,
        Meta(description="most private memory, added up where shared; default: half of all"),
    ] = None
    run_timeout: Annotated[
        Duration,
        Meta(description="longest run; then the process is killed and started again"),
    ] = Duration(30_000_000_000)


class ModelConfig(Section, frozen=True, kw_only=True):
    """One model: its bundles, which release answers, and how it runs."""

    bundle: Annotated[
        Path | tuple[Path, ...],
        Meta(description="bundle file or files (globs allowed), relative to the config file"),
    ]
    pull: Annotated[
        PullReference | None,
        Meta(
            description="reference that a source is asked for now and then, as "
            "factory/digits:stable; new releases are put where bundle looks; default: no source"
        ),
    ] = None
    serve: Annotated[
        int | Literal["newest"],
        Meta(description="release that answers when none is named; newest = highest ready"),
    ] = "newest"
    aliases: Annotated[
        dict[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}\Z")], int],
        Meta(description="names for releases, e.g. {champion: 2}"),
    ] = msgspec.field(default_factory=dict)
    required: Annotated[bool, Meta(description="ready waits for this model")] = True
    runtime: Annotated[
        Literal["auto"] | tuple[RuntimeName, ...],
        Meta(description="order of preference; auto = what is fastest on this device, measured"),
    ] = ("onnxruntime",)
    fallback: FallbackPolicy = "allow"
    precision: Annotated[
        Literal["auto", "float32", "float16", "int8"],
        Meta(description="of a bundle that has several; auto = what is faster on this device"),
    ] = "auto"
    isolation: Annotated[
        Literal["none", "device", "model"],
        Meta(
            description="model: in a process of its own, whose crash or hang harms no other; "
            "device: in one with the models of its device that say so"
        ),
    ] = "none"
    worker: WorkerConfig = WorkerConfig()
    priority: Annotated[
        Literal["high", "normal", "low"],
        Meta(description="class of its runs where models want the device at the same time"),
    ] = "normal"
    memory: ModelMemoryConfig = ModelMemoryConfig()
    batching: BatchingConfig = BatchingConfig()
    queue: QueueConfig = QueueConfig()
    warmup: Annotated[
        int, Meta(ge=0, le=100, description="runs of each batch size before a release is ready")
    ] = 1
    cache: CacheConfig | None = None
    rollout: RolloutConfig | None = None
    sequence: SequenceConfig | None = None
    generation: GenerationConfig | None = None
    publish: FeedConfig | None = None

    @property
    def bundles(self) -> tuple[str, ...]:
        """``bundle`` as a tuple."""
        return (self.bundle,) if isinstance(self.bundle, str) else self.bundle


class Config(Section, frozen=True, kw_only=True):
    """Everything an operator says. Frozen; a change is a new one."""

    node: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")] | None,
        Meta(description="default: the host's name"),
    ] = None
    labels: Annotated[
        dict[Label, LabelValue],
        Meta(description="what this device is, for bundles that say whom they are for"),
    ] = msgspec.field(default_factory=dict)
    environment: Annotated[
        tuple[VariableName, ...],
        Meta(description="variables that values may use as ${NAME}; without any, ${ is plain text"),
    ] = ()
    state_dir: Annotated[Path, Meta(description="store and last good configuration")] = (
        "/var/lib/edged"
    )
    listen: ListenConfig = ListenConfig()
    access: AccessConfig = AccessConfig()
    trust: TrustConfig = TrustConfig()
    inbox: InboxConfig | None = None
    sources: Annotated[
        dict[SourceName, SourceConfig],
        Meta(description="where bundles may be fetched from, by name; default: nowhere"),
    ] = msgspec.field(default_factory=dict)
    limits: LimitsConfig = LimitsConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    scheduling: SchedulingConfig = SchedulingConfig()
    memory: MemoryConfig = MemoryConfig()
    trial: TrialConfig = TrialConfig()
    engines: EnginesConfig = EnginesConfig()
    store: StoreConfig = StoreConfig()
    reload: ReloadConfig = ReloadConfig()
    log: LogConfig = LogConfig()
    mqtt: MqttConfig | None = None
    brokers: Annotated[
        dict[BrokerName, NamedBrokerConfig],
        Meta(description="further brokers, for bindings that name them"),
    ] = msgspec.field(default_factory=dict)
    models: Annotated[
        dict[ModelName, ModelConfig], Meta(description="the models to serve, by name")
    ] = msgspec.field(default_factory=dict)
    pipelines: Annotated[
        dict[ModelName, PipelineConfig],
        Meta(description="graphs of models and steps, served as models of their own, by name"),
    ] = msgspec.field(default_factory=dict)
    bindings: Annotated[
        tuple[BindingConfig, ...], Meta(description="ways from a topic through a model to a topic")
    ] = ()
