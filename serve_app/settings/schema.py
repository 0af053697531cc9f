"""Every setting and its default: the one place for both. Free of Ray, so that tools can read it quickly."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from router import EngineModel, Health, Reservations, Router
from router.policies import Policy, PolicyName
from serve_app.settings.moved_paths import moved_paths
from serve_app.settings.tenant_names import NONE, OTHER

TokenizerName = Literal["auto", "huggingface", "fastokens"]
EngineName = Literal["vllm", "simulated"]
WaitingOrderName = Literal["arrival", "shortest"]
ExplainHeaders = Literal["off", "brief", "full"]
IsolationMode = Literal["tenant", "group", "shared"]
TenantName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$")]
AUTOSCALING_POLICY = "serve_app.autoscaling.serve_policy:UncachedWorkPolicy"
"""For `llm.deployment_config.autoscaling_config.policy.policy_function`."""
OPS_APPLICATION = "warmroute-ops"
"""The operators' application is the only one of this name in a cluster."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class RoutingSettings(_Frozen):
    """How a replica is chosen. Changes apply to the running application; no replica restarts."""

    policy: PolicyName = "prefix_affinity"
    """The policy that steers. The others are baselines to compare with."""
    shadow_policies: list[PolicyName] = []
    """Policies that decide about every request without steering it; their regret is counted (docs/size/shadow.md)."""

    @field_validator("shadow_policies")
    @classmethod
    def _each_once(cls, names: list[PolicyName]) -> list[PolicyName]:
        if len(set(names)) < len(names):
            raise ValueError("names a policy twice; name each once")
        return names


class RouterSettings(_Frozen):
    """The ingress routers, and the messages between replicas and routers. A change redeploys the application."""

    replicas_per_node: int = Field(2, ge=1)
    """Router processes on each proxy node; two, so that one may die."""
    max_keyed_body_mib: float = Field(2.0, gt=0)
    """Largest request body that is keyed, in MiB; a larger one is placed by load alone. HAProxy keeps at most this much
    of each body in memory."""
    answer_timeout_s: float = Field(0.5, gt=0)
    """How long HAProxy waits for a router's decision; then the live replica with the fewest connections gets the
    request. Without the edge (edge.enabled) it waits 5 s, and then answers 503."""
    read_timeout_s: float = Field(0.4, gt=0)
    """How long a router may take to read a prompt; then the prompt is placed by load alone."""
    virtual_nodes: int = Field(128, ge=1)
    """Points of each replica's rank on the consistent-hash ring."""
    answer_tokens: int = Field(256, ge=0)
    """Work of one answer for its replica, in prefill tokens; about that of a few hundred answer tokens on a GPU."""
    half_life_s: float = Field(30.0, gt=0)
    """Time after which recent work counts half."""
    arrival_ttl_s: float = Field(5.0, gt=0)
    """A routed request that its replica does not list in a heartbeat after this time is over, or went elsewhere."""
    reservation_ttl_s: float = Field(60.0, gt=0)
    """A routed request counts as load at most this long without a sign of life; each heartbeat that lists it is one."""
    max_undelivered: int = Field(65536, ge=1)
    """Receipts or reservations held back while their receivers do not answer; the oldest go first."""
    delivery_interval_s: float = Field(0.005, ge=0)
    """Pause between two deliveries. Messages of one pause go out together, as each delivery calls every router."""
    delivery_timeout_s: float = Field(1.0, gt=0)
    """How long one delivery of receipts or reservations may take."""
    silence_s: float = Field(1.5, gt=0)
    """A replica is not eligible after this long without a message; by default, three heartbeats."""
    exclusion_s: float = Field(30.0, gt=0)
    """How long silence, or a report that its engine died or hangs, keeps a replica out at most; then it is tried
    again."""
    retry_s: float = Field(2.0, gt=0)
    """A replica to which a connection failed is tried again after this time, and so is a router that failed HAProxy."""

    @model_validator(mode="after")
    def _answers_in_time(self) -> Self:
        if self.read_timeout_s >= self.answer_timeout_s:
            raise ValueError(
                f"read_timeout_s = {self.read_timeout_s} is not less than answer_timeout_s = {self.answer_timeout_s}: "
                "HAProxy would not wait for a router that reads so long; lower the former, or raise the latter"
            )
        return self

    def make_router(self, *, policy: Policy, block_size: int, engine_model: "EngineModelSettings") -> Router:
        """The core of a router with these numbers, which knows no replica yet."""
        load = Reservations(
            model=engine_model.engine_model(),
            half_life_s=self.half_life_s,
            answer_tokens=self.answer_tokens,
            arrival_ttl_s=self.arrival_ttl_s,
            ttl_s=self.reservation_ttl_s,
        )
        health = Health(silence_s=self.silence_s, exclusion_s=self.exclusion_s, retry_s=self.retry_s)
        return Router(policy=policy, block_size=block_size, virtual_nodes=self.virtual_nodes, health=health, load=load)


class ReplicaSettings(_Frozen):
    """Replica settings that are not under `llm`. A change redeploys the application."""

    heartbeat_s: float = Field(0.5, gt=0)
    """How often a replica tells the routers its state: outstanding requests, the engine's numbers, its health."""
    hang_s: float = Field(60.0, gt=0)
    """How long an engine may answer nothing, which it does between any two steps, idle or not; then it hangs, and its
    replica ends as when it dies (docs/operate/failures.md). So does a replica that itself stands still as long. Set it
    well above the longest step and the loading of an adapter: 8,192 prompt tokens take a GPU a second or two, and a
    CPU more than ten. The default is vLLM's own for a step, `VLLM_ENGINE_ITERATION_TIMEOUT_S`."""
    canary_period_s: float = Field(60.0, gt=0)
    """How often a replica runs its self-test: it serves a few small prompts to itself, by which routers see whether
    their keys are the same (docs/concepts/parity.md)."""
    kv_events: bool = False
    """Follow vLLM's KV events: routers then know what a replica has cached, and estimate only what is being computed
    (docs/concepts/beliefs.md)."""
    waiting_order: WaitingOrderName = "shortest"
    """Which prompt that waits in an engine goes next. `arrival`: vLLM's own order. `shortest`: the one with the fewest
    tokens to compute, yet none waits for more than one and a half times the work of first come, first served
    (docs/concepts/waiting-order.md). A `scheduler_cls` in `llm.engine_kwargs` wins where this is not set, which then is
    `arrival`."""
    drain_s: float = Field(3600.0, gt=0)
    """How long a replica that leaves may take to end its streams; set it above your longest stream, as
    `http.hard_stop_after_s`."""
    max_waiting_requests: int = Field(256, ge=1)
    """At most this many sequences wait for their first token at a replica. A request is one sequence for each answer
    (`n`) to each of its prompts. Requests beyond the limit are answered 429 with Retry-After; a request that alone
    exceeds it is answered 400."""
    max_waiting_tokens: int | None = Field(None, ge=1)
    """At most this many uncached prompt tokens wait at a replica; unbounded by default. Take what the engine computes
    in the time to a first token that you promise: `prefill_tokens_per_s` times those seconds."""
    warm_joining: bool = True
    """Warm a replica that joins with the hottest prefixes that it will be asked for, before its first client. Replicas
    keep the token ids of recent prompts for that, in memory (docs/operate/scaling.md)."""
    hand_over: bool = False
    """Let a replica that leaves give the prompts that it served last to those that stay, as far as they have room for
    them, in memory (docs/operate/scaling.md). Off by default, as no measurement shows what it gains."""
    explain_headers: ExplainHeaders = "brief"
    """What answers say of themselves in `x-warmroute-` headers. `off`: nothing. `brief`: the request's id, and that an
    engine is simulated. `full`: also which replica served, why, and how much of the prompt was estimated to be cached
    there, by which clients can find out what others ask; not for an installation that clients share
    (docs/reference/headers.md)."""
    log_requests: bool = False
    """Write a line for each request when it is over, in place of Serve's: its id, decision, tokens and times, and its
    trace's id. The application's logs are then JSON."""
    tenants: list[TenantName] = Field([], max_length=100)
    """Names of tenants whose prompts are counted apart, as well as in the total (docs/operate/page.md). All other names
    are counted as `other`, requests without a name as `none`."""
    tenant_header: str = Field("x-tenant", pattern=r"^[a-z0-9-]+$")
    """Header in which your gateway names the tenant of a request; in lower case."""
    max_body_mib: float = Field(32.0, gt=0)
    """Largest request body, in MiB; a larger one is answered 413, unread. Text never needs this much; images may."""

    @field_validator("explain_headers", mode="before")
    @classmethod
    def _off_is_no_boolean(cls, value: object) -> object:
        """YAML reads a plain `off` as false."""
        return "off" if value is False else value

    @field_validator("tenants")
    @classmethod
    def _are_apart(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("names a tenant twice; name each once")
        for name in (NONE, OTHER):
            if name in names:
                raise ValueError(f"{name!r} is what requests of no tenant are counted as; choose another name")
        return names


class EngineModelSettings(_Frozen):
    """How long an engine's steps take, for replaying traces and for simulated engines: `step_s` + prefill tokens /
    `prefill_tokens_per_s` + `attention_s` for each token that one of them looks at + `decode_s` for each sequence being
    decoded + `decode_context_s` for each token of these sequences. `warmroute calibrate` measures such constants on a
    running replica. A real engine ignores them.
    """

    step_s: float = Field(0.008, ge=0)
    """Time that every step takes by itself."""
    prefill_tokens_per_s: float = Field(10_000.0, gt=0)
    """Prompt tokens computed a second, after that time."""
    attention_s: float = Field(0.0, ge=0)
    """What each pair of a prefill token and a token before it in its prompt, cached or not, adds to a step."""
    decode_s: float = Field(0.000_15, ge=0)
    """What each sequence being decoded adds to a step."""
    decode_context_s: float = Field(40e-9, ge=0)
    """What each token of a sequence being decoded adds to a step: its keys and values are read. Here 128 KiB a token
    (Llama 3.1 8B) at 3.35 TB/s (H100)."""
    max_step_tokens: int = Field(8_192, ge=1)
    """Prefill and decode tokens in one step (vLLM's `max_num_batched_tokens`, which simulated engines go by)."""
    max_sequences: int = Field(256, ge=1)
    """Sequences in one step (vLLM's `max_num_seqs`, likewise)."""

    def engine_model(self) -> EngineModel:
        """The constants by which routers tell what work costs."""
        names = [field.name for field in fields(EngineModel)]
        return EngineModel(**self.model_dump(include=set(names)))


class AutoscalingOptions(_Frozen):
    """How many replicas are wanted, by uncached work: our autoscaling policy's options: docs/operate/autoscaling.md."""

    prefill_tokens_per_s: float = Field(gt=0)
    """Prompt tokens that a replica computes a second, as `warmroute calibrate` measures it."""
    prefill_use: float = Field(0.7, gt=0, le=1)
    """Share of it that uncached prompt tokens are meant to use; the rest keeps waiting short."""
    kv_use: float = Field(0.8, gt=0, le=1)
    """Share of the KV cache that running requests are meant to use; the rest caches prefixes for later."""
    backlog_s: float = Field(30.0, gt=0)
    """Seconds in which the waiting prompts are worked off, in addition to those that arrive."""
    slack: float = Field(0.15, ge=0, lt=1)
    """A replica goes only where the rest would stay below the targets by this share."""


class HttpSettings(_Frozen):
    """Where clients connect."""

    port: int = Field(8000, ge=1, le=65535)
    """HAProxy's port."""
    host: str | None = Field(None, pattern=r"^[0-9A-Za-z.:*-]+$")
    """Its address, such as `127.0.0.1`; null means all interfaces, but 127.0.0.1 under `warmroute serve`."""
    hard_stop_after_s: int = Field(3600, ge=1)
    """A stream may outlive a reload of HAProxy by this long; set it above your longest stream."""


class EdgeSettings(_Frozen):
    """What HAProxy is told beyond Ray's configuration, against clients that starve others: docs/operate/security.md."""

    enabled: bool = True
    """Whether HAProxy is started by `warmroute-haproxy`. Without it, HAProxy has Ray's configuration alone."""
    head_timeout_s: float = Field(10.0, gt=0)
    """How long a client may take to send a request's headers, also after it has connected."""
    body_timeout_s: float = Field(30.0, gt=0)
    """How long a client may take to send a request's body, or as much of it as routers are handed."""
    client_timeout_s: int = Field(60, ge=1)
    """How long a client may take nothing of an answer that is there for it, or send nothing of a longer body."""
    server_timeout_s: int = Field(3600, ge=1)
    """How long a replica may be silent before its request ends with an error; set it above your longest wait."""
    max_connections: int = Field(4096, ge=1)
    """Connections of all clients at the same time; more wait. HAProxy needs 2.5 times as many file descriptors
    (`ulimit -Hn`)."""
    max_connections_per_source: int | None = Field(1024, ge=1)
    """Connections of one address at the same time; more are refused. A load balancer is one address: null means no
    limit."""
    max_requests_per_s_per_source: float | None = Field(None, gt=0)
    """Requests a second of one address, over ten seconds; more are answered 429. Null means no limit."""
    max_head_kib: int = Field(64, ge=1)
    """The most that a request's headers may be, in KiB; longer ones are answered 431."""
    more_paths: list[Annotated[str, Field(pattern=r"^/[A-Za-z0-9_./*-]+$")]] = []
    """More paths for clients than those of `serve_app/edge/paths.py`, such as `/metrics`; `*` stands for one part."""
    certificate: Path | None = None
    """A file with a TLS certificate, its chain and its key, the same on every node; a renewed one is taken up within
    seconds. Null means no TLS."""
    tls_port: int = Field(8443, ge=1, le=65535)
    """Where clients then connect, on all interfaces. `http.port` goes on without TLS: let http.host be 127.0.0.1."""


class AccessSettings(_Frozen):
    """Who may ask, and which tenants share what is cached: docs/operate/keys.md."""

    key_file: Path | None = None
    """A YAML or JSON file with tenants and the hashes of their API keys, the same on every node, made by
    `warmroute keys`. It is read again when it changes. Null means that anyone may ask, with any key or none."""
    isolation: IsolationMode = "tenant"
    """Whose prompts may share what is cached, where there is a key file. `tenant`: each tenant's are apart. `group`:
    tenants of one group share. `shared`: all tenants share, and can find out by time what others have asked."""


class OpsSettings(_Frozen):
    """The operators' application: page, JSON and metrics of what the cluster's routers count (docs/operate/page.md)."""

    enabled: bool = True
    """Deploy it together with the application."""
    route_prefix: str = Field("/ops", pattern=r"^/[a-z0-9_-]+$")
    """Its path on HAProxy's port."""
    open: bool = False
    """Everyone who reaches that port may look, unless WARMROUTE_OPS_TOKEN is set on every node. Without either no one
    may."""
    history: Path | None = Path(".warmroute/ops.sqlite")
    """The file in which it keeps its totals, on the node where it runs; null keeps them in memory until it restarts."""
    applications: list[str] | None = None
    """The applications that it reads; null for all of the cluster that have routers."""


class LocalSettings(_Frozen):
    """For `warmroute serve`, which starts a Ray cluster of its own on this machine. Ignored elsewhere."""

    num_cpus: int = Field(16, ge=1)
    """Logical CPUs that Ray may hand out; a scheduling limit, not a use."""
    object_store_gib: float = Field(0.25, gt=0)
    """Shared memory for Ray's object store."""
    dashboard_port: int = Field(8265, ge=1, le=65535)
    """Ray's dashboard, with the Serve page; on 127.0.0.1."""
    memory_per_replica_gib: float = Field(3.5, gt=0)
    """Free memory wanted for each replica before starting."""
    start_timeout_s: float = Field(900.0, gt=0)
    """How long all replicas may take to become ready."""


class Settings(_Frozen):
    """One application: one model behind one set of routers."""

    name: str = Field("warmroute", pattern=r"^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$")
    """The Serve application's name."""
    route_prefix: str = Field("/", pattern=r"^/.*$")
    """The application's path; each model is an application with its own."""
    llm: dict[str, Any]
    """Passed to `ray.serve.llm.LLMConfig` untouched: model, replicas or autoscaling, vLLM's engine arguments."""
    engine: EngineName = "vllm"
    """`simulated` is vLLM without the model: all is real but the time a step takes, which is `engine_model`'s, and the
    answers, which are noise (docs/size/simulated.md)."""
    tokenizer: TokenizerName = "auto"
    """Who makes token ids of texts, in routers and replicas. `auto`: fastokens, which is tens of times faster, wherever
    it gives the model's own ids, and Hugging Face's tokenizer elsewhere. `fastokens`: nothing starts where it does not.
    `huggingface`: never fastokens (docs/concepts/keys.md)."""
    routing: RoutingSettings = RoutingSettings()
    routers: RouterSettings = RouterSettings()
    replicas: ReplicaSettings = ReplicaSettings()
    engine_model: EngineModelSettings = EngineModelSettings()
    http: HttpSettings = HttpSettings()
    edge: EdgeSettings = EdgeSettings()
    access: AccessSettings = AccessSettings()
    ops: OpsSettings = OpsSettings()
    local: LocalSettings = LocalSettings()

    @model_validator(mode="after")
    def _paths_are_current(self) -> Self:
        moved = list(moved_paths("llm", self.llm))
        if moved:
            raise ValueError("; ".join(map(str, moved)))
        return self

    @model_validator(mode="after")
    def _cache_has_a_size(self) -> Self:
        arguments = self.llm.get("engine_kwargs", {})
        if self.engine == "simulated" and "num_gpu_blocks_override" not in arguments:
            raise ValueError(
                "engine = 'simulated' has no memory by which to size its KV cache: set "
                "llm.engine_kwargs.num_gpu_blocks_override"
            )
        return self

    @model_validator(mode="after")
    def _simulated_engines_say_so(self) -> Self:
        if self.engine == "simulated" and self.replicas.explain_headers == "off":
            raise ValueError(
                "engine = 'simulated' and replicas.explain_headers = 'off': its figures could be taken for real ones; "
                "choose replicas.explain_headers = 'brief' or 'full'"
            )
        return self

    @model_validator(mode="after")
    def _keys_are_asked_for_once(self) -> Self:
        if self.access.key_file is None:
            return self
        if not self.edge.enabled:
            raise ValueError(
                f"access.key_file = {str(self.access.key_file)!r}, and edge.enabled is false: without the edge, "
                "routers do not learn whose a request is; leave one of the two out"
            )
        if "api_key" in self.llm.get("engine_kwargs", {}):
            raise ValueError(
                "access.key_file is set, and so is llm.engine_kwargs.api_key: vLLM would refuse the tenants' keys; "
                "leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _ops_has_its_own_place(self) -> Self:
        if self.ops.enabled and self.name == OPS_APPLICATION:
            raise ValueError(f"name = {self.name!r} is that of the operators' application: choose another one")
        if self.ops.enabled and self.route_prefix.rstrip("/") == self.ops.route_prefix:
            raise ValueError(
                f"route_prefix and ops.route_prefix are both {self.ops.route_prefix}: give one of them another path"
            )
        return self

    @model_validator(mode="after")
    def _kv_events_are_ours(self) -> Self:
        arguments = self.llm.get("engine_kwargs", {})
        if not self.replicas.kv_events:
            return self
        if "kv_events_config" in arguments:
            raise ValueError(
                "replicas.kv_events = true, and llm.engine_kwargs.kv_events_config is set: vLLM publishes its KV "
                "events in one place only; leave one of the two out"
            )
        if arguments.get("data_parallel_size", 1) > 1:
            raise ValueError(
                "replicas.kv_events = true, and llm.engine_kwargs.data_parallel_size is "
                f"{arguments['data_parallel_size']}: a replica then has several KV caches; leave one of the two out"
            )
        if arguments.get("enable_prefix_caching") is False:
            raise ValueError(
                "replicas.kv_events = true, and llm.engine_kwargs.enable_prefix_caching is false: nothing is cached "
                "then; leave one of the two out"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _own_scheduler_wins(cls, content: Any) -> Any:  # noqa: ANN401  whatever a file says
        """Who names a scheduler and no order means the scheduler's."""
        if not isinstance(content, dict) or not _has_own_scheduler(content.get("llm")):
            return content
        replicas = content.get("replicas", {})
        if isinstance(replicas, ReplicaSettings):
            replicas = replicas.model_dump(exclude_unset=True)
        if not isinstance(replicas, dict) or "waiting_order" in replicas:
            return content
        return {**content, "replicas": {**replicas, "waiting_order": "arrival"}}

    @model_validator(mode="after")
    def _there_is_one_scheduler(self) -> Self:
        scheduler = self.llm.get("engine_kwargs", {}).get("scheduler_cls")
        if scheduler is not None and self.replicas.waiting_order != "arrival":
            raise ValueError(
                f"llm.engine_kwargs.scheduler_cls is {scheduler!r}, and replicas.waiting_order = "
                f"{self.replicas.waiting_order!r} is done by a scheduler of ours: leave scheduler_cls out, or set "
                "replicas.waiting_order to arrival"
            )
        return self

    @model_validator(mode="after")
    def _autoscaling_has_its_options(self) -> Self:
        autoscaling = (self.llm.get("deployment_config") or {}).get("autoscaling_config")
        policy = autoscaling.get("policy") if isinstance(autoscaling, dict) else None
        if not isinstance(policy, dict) or policy.get("policy_function") != AUTOSCALING_POLICY:
            return self
        try:
            AutoscalingOptions.model_validate(policy.get("policy_kwargs", {}))
        except ValidationError as error:
            faults = "; ".join(f"{each['loc'][0]} = {each['input']!r}: {each['msg']}" for each in error.errors())
            raise ValueError(f"llm.deployment_config.autoscaling_config.policy.policy_kwargs: {faults}") from None
        return self

    @property
    def model_id(self) -> str:
        """The name by which clients call the model."""
        return str(self.llm.get("model_loading_config", {}).get("model_id", ""))


def _has_own_scheduler(llm: object) -> bool:
    arguments = llm.get("engine_kwargs") if isinstance(llm, dict) else None
    return isinstance(arguments, dict) and arguments.get("scheduler_cls") is not None
