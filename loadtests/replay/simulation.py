"""The whole simulation: requests reach the routers in turn, as HAProxy hands them out, and messages travel."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count, cycle
from random import Random

from loadtests.replay.agenda import Agenda
from loadtests.replay.engine import EngineOptions
from loadtests.replay.findings import Attempt, Findings
from loadtests.replay.fleet import ChangeKind, Fleet, MembershipChange, ToldCapacity
from loadtests.replay.processes import ReceiptBatch, RouterProcess, make_router
from loadtests.replay.reservation_check import ReservationCheck
from loadtests.replay.results import Replay
from loadtests.replay.rivals.table import make_policy
from loadtests.replay.scaling import Autoscaling, Scaler
from loadtests.replay.sharing import Sharing
from loadtests.replay.trace import BLOCK_SIZE_TOKENS, TraceRequest
from loadtests.replay.transport import Channel, Fault, Transport
from router import Replica, ReplicaId, RequestId, Reservation, RouteRequest, Shadow
from router.policies import Policy
from serve_app.messages.batches import encode
from serve_app.messages.receipts import Arrived, Finished, Prefilled, Receipt
from serve_app.settings.schema import EngineModelSettings, ReplicaSettings, RouterSettings, RoutingSettings


@dataclass(frozen=True, slots=True)
class Restart:
    """Routers that are replaced by empty ones at a time."""

    at_s: float
    routers: tuple[int, ...]
    is_adopting: bool
    """Whether each gets the state of a router that stayed, one message later."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that a run depends on."""

    requests: tuple[TraceRequest, ...]
    num_replicas: int
    num_routers: int
    seed: int
    routing: RoutingSettings = field(default_factory=RoutingSettings)
    routers: RouterSettings = field(default_factory=RouterSettings)
    replicas: ReplicaSettings = field(default_factory=ReplicaSettings)
    engine: EngineOptions = field(default_factory=EngineOptions)
    rank_to_engine: Mapping[int, EngineOptions] = field(default_factory=dict)
    """The engines of the replicas that have another one, by rank."""
    told_engine: EngineModelSettings | None = None
    """How fast routers are told that engines are; None for the truth."""
    sharing: Sharing = Sharing.ALL
    is_telling: bool = False
    """Whether engines tell of every block that they store and evict, so that routers need not estimate."""
    told_kv_tokens: int | None = None
    """The KV capacity that routers are told each replica has; None for the true one."""
    told_host_tokens: int | None = None
    """The same for the second tier."""
    delay_s: float = 0.005
    """Seconds that a message travels."""
    kv_delay_s: float | None = None
    """Seconds that KV events travel; None for as long as others."""
    faults: tuple[Fault, ...] = ()
    restarts: tuple[Restart, ...] = ()
    changes: tuple[MembershipChange, ...] = ()
    autoscaling: Autoscaling | None = None
    """The autoscaler that decides how many replicas there are after the start; None for none."""
    membership_lag_s: float = 2.1
    """Seconds until routers learn of a change, as long as Ray Serve took to unlist a killed replica."""
    is_closed_loop: bool = False
    """Whether a request comes only after its predecessor's answer, as much later as in the trace."""
    is_asking: bool = True
    """Whether the other routers are asked what they would choose; policies with a memory of their own notice that."""
    sample_s: float | None = 0.25
    """Seconds between checks of the routers' reservations against the truth; None for no checks."""
    cache_sample_s: float | None = None
    """Seconds between counts of the replicas that have cached each block; None for no counts."""
    block_size: int = BLOCK_SIZE_TOKENS
    policy: str = ""
    """A policy's name in `loadtests.replay.rivals`; empty for the one that the routing settings name."""


Clock = Callable[[], float]


def _no_clock() -> float:
    return 0.0


class Simulation:
    """One run of a scenario.

    Args:
        scenario: decides everything that happens.
        clock: real seconds, to measure how long decisions take; nothing depends on it.

    """

    def __init__(self, scenario: Scenario, *, clock: Clock = _no_clock) -> None:
        self._scenario = scenario
        self._clock = clock
        self._agenda = Agenda()
        self._transport = Transport(
            delay_s=scenario.delay_s,
            kv_delay_s=scenario.delay_s if scenario.kv_delay_s is None else scenario.kv_delay_s,
            faults=scenario.faults,
            rng=Random(f"transport {scenario.seed}"),
        )
        self._fleet = Fleet(
            scenario.engine,
            block_size=scenario.block_size,
            agenda=self._agenda,
            heartbeat_s=scenario.replicas.heartbeat_s,
            send=self._on_batch,
            is_telling=scenario.is_telling,
            told=ToldCapacity(scenario.told_kv_tokens, scenario.told_host_tokens),
            rank_to_options=scenario.rank_to_engine,
        )
        self._found = Findings()
        self._followers: dict[int, list[int]] = {}
        self._last_start_s = 0.0
        self._plan_arrivals()
        self._plan_replicas()
        self._redispatch_rng = Random(f"redispatch {scenario.seed}")
        self._generations = count()
        self._routers = [self._start_router(index) for index in range(scenario.num_routers)]
        self._turns = cycle(range(scenario.num_routers))
        self._books = ReservationCheck(settle_s=2 * scenario.delay_s)
        self._plan_samples()
        self._request_ids = count()

    def run(self) -> Replay:
        """Run everything from the first arrival until the last reservation would have expired."""
        while not self._is_over:
            self._agenda.step()
        self._agenda.run_until(self._agenda.now_s + self._scenario.routers.reservation_ttl_s)
        for process in self._routers:
            process.router.expire(now=self._agenda.now_s)
            process.router.check_integrity()
        return self._found.as_run(
            last_start_s=self._last_start_s,
            replica_to_computed_tokens=self._fleet.computed_tokens(),
            router_to_reservations_left={
                process.name: process.router.cluster.load.num_reservations for process in self._routers
            },
            lives=tuple(self._fleet.lives.values()),
        )

    @property
    def _is_over(self) -> bool:
        return len(self._found.finished_s) == len(self._scenario.requests)

    def _plan_arrivals(self) -> None:
        for number, request in enumerate(self._scenario.requests):
            if self._scenario.is_closed_loop and request.predecessor is not None:
                self._followers.setdefault(request.predecessor, []).append(number)
            else:
                self._last_start_s = max(self._last_start_s, request.arrival_s)
                self._agenda.at(request.arrival_s, partial(self._arrive, number))

    def _plan_replicas(self) -> None:
        scenario = self._scenario
        for restart in scenario.restarts:
            self._agenda.at(restart.at_s, partial(self._restart, restart))
        for rank in range(scenario.num_replicas):  # which do not beat together
            first_s = scenario.replicas.heartbeat_s * (rank + 1) / scenario.num_replicas
            self._fleet.join(rank, first_beat_s=first_s)
        for change in scenario.changes:
            self._agenda.at(change.at_s, partial(self._change, change))
        self._scaler = None if scenario.autoscaling is None else self._make_scaler(scenario.autoscaling)

    def _make_scaler(self, autoscaling: Autoscaling) -> Scaler:
        return Scaler(
            autoscaling,
            agenda=self._agenda,
            fleet=self._fleet,
            change=self._change,
            kv_capacity_tokens=self._scenario.engine.kv_capacity_tokens,
        )

    def _plan_samples(self) -> None:
        sample_s, cache_sample_s = self._scenario.sample_s, self._scenario.cache_sample_s
        if sample_s is not None:
            self._agenda.every(sample_s, self._sample_books, first_s=sample_s)
        if cache_sample_s is not None:
            self._agenda.every(cache_sample_s, self._sample_caches, first_s=cache_sample_s)

    def _arrive(self, number: int) -> None:
        self._route(number, arrival_s=self._agenda.now_s)

    def _route(self, number: int, *, arrival_s: float) -> None:
        request = self._scenario.requests[number]
        request_id = RequestId(f"request-{next(self._request_ids)}")
        router = self._routers[next(self._turns)]
        asked = request.asked(request_id)
        answers = [self._would_choose(other, asked) for other in self._asked(router)]
        started_s = self._clock()
        decision, reservation = router.router.choose(asked, now=self._agenda.now_s)
        self._found.deciding_s += self._clock() - started_s
        self._found.asked(answers, decision.replica_id)
        self._found.shadowed(decision)
        self._found.sent[request_id] = Attempt(number, arrival_s, router.name)
        self._books.sent(request_id, now=self._agenda.now_s)
        self._tell_others(router, reservation)
        if self._scaler is not None:
            self._scaler.routed(request_id, uncached_tokens=reservation.pending_tokens)
        # A replica that crashed refuses the connection, and HAProxy tries another one.
        replica = self._fleet.find(decision.replica_id) or self._redispatch_rng.choice(self._fleet.processes())
        replica.submit(request_id, request)

    def _asked(self, router: RouterProcess) -> list[RouterProcess]:
        return [other for other in self._routers if other is not router] if self._scenario.is_asking else []

    def _would_choose(self, process: RouterProcess, request: RouteRequest) -> ReplicaId:
        """What the router would choose now; nothing is reserved."""
        process.router.prepare(now=self._agenda.now_s)
        return process.router.policy.choose(request, process.router.cluster).replica.replica_id

    def _tell_others(self, router: RouterProcess, reservation: Reservation) -> None:
        told = self._scenario.sharing.as_told(reservation)
        others = [other for other in self._routers if other is not router]
        if told is None or not others:
            return
        payload = router.encode(told)
        for other in others:
            self._carry(Channel.RESERVATIONS, router.name, other, partial(self._reserve, other, payload))

    def _reserve(self, process: RouterProcess, payload: bytes) -> None:
        process.on_reservations(payload, now=self._agenda.now_s)

    def _on_batch(self, batch: ReceiptBatch) -> None:
        if self._scaler is not None:
            self._scaler.on_batch(batch)
        for receipt in batch.items:
            match receipt:
                case Prefilled():
                    self._found.prefilled(ReplicaId(batch.sender), receipt, now=self._agenda.now_s)
                case Finished():
                    self._finish(receipt.request_id)
        channel = Channel.KV_EVENTS if batch.kv_updates else Channel.RECEIPTS
        payload = _encoded(batch, batch.items)
        for router in self._routers:
            heard = self._only_own(batch, router) if self._scenario.sharing is Sharing.NOTHING else payload
            self._carry(channel, batch.sender, router, partial(self._receive, router, heard))

    def _finish(self, request_id: RequestId) -> None:
        self._books.finished(request_id, now=self._agenda.now_s)
        self._found.finished(request_id, now=self._agenda.now_s)
        requests, number = self._scenario.requests, self._found.sent[request_id].number
        for follower in self._followers.get(number, ()):
            gap_s = requests[follower].arrival_s - requests[number].arrival_s
            self._agenda.after(gap_s, partial(self._arrive, follower))

    def _receive(self, process: RouterProcess, payload: bytes) -> None:
        process.on_receipts(payload, now=self._agenda.now_s)

    def _carry(self, channel: Channel, sender: str, receiver: RouterProcess, deliver: partial[None]) -> None:
        for delay_s in self._transport.delays(channel, sender=sender, receiver=receiver.name, now=self._agenda.now_s):
            self._agenda.after(delay_s, deliver)

    def _only_own(self, batch: ReceiptBatch, router: RouterProcess) -> bytes:
        return _encoded(batch, [receipt for receipt in batch.items if self._is_own(receipt, router)])

    def _is_own(self, receipt: Receipt, router: RouterProcess) -> bool:
        match receipt:
            case Arrived() | Prefilled() | Finished():
                return self._found.sent[receipt.request_id].router_name == router.name
            case _:
                return True

    def _start_router(self, index: int) -> RouterProcess:
        name = f"router-{index}"
        scenario = self._scenario
        seed = f"{name} {next(self._generations)} {scenario.seed}"
        policy = self._make_policy(scenario.policy or scenario.routing.policy, seed)
        router = make_router(
            self._fleet.members,
            policy=policy,
            block_size=scenario.block_size,
            routers=scenario.routers,
            engine_model=scenario.told_engine or scenario.engine,
        )
        router.shadows = tuple(
            Shadow(self._make_policy(each, f"shadow {seed}")) for each in scenario.routing.shadow_policies
        )
        return RouterProcess(name, router, self._found.recorded)

    def _make_policy(self, name: str, seed: str) -> Policy:
        return make_policy(
            name,
            Random(seed),
            block_size=self._scenario.block_size,
            engine_of=self._fleet.engine_of,
        )

    def _restart(self, restart: Restart) -> None:
        """What is on its way to the old one is lost.

        The new one hears everything from now on, so the state that a peer gives it one message later misses nothing.
        """
        peers = [process for index, process in enumerate(self._routers) if index not in restart.routers]
        for index in restart.routers:
            self._routers[index] = self._start_router(index)
            if restart.is_adopting:
                self._agenda.after(self._scenario.delay_s, partial(self._adopt, self._routers[index], peers[0]))

    def _adopt(self, joining: RouterProcess, peer: RouterProcess) -> None:
        for member in self._fleet.members:
            state = peer.router.export(member.replica_id, now=self._agenda.now_s)
            if state is not None:
                joining.on_states(peer.encode(state), now=self._agenda.now_s)

    def _change(self, change: MembershipChange) -> None:
        """Routers learn of it later; of the requests that a crash breaks off, clients send the whole again at once."""
        lag_s = self._scenario.membership_lag_s
        match change.change:
            case ChangeKind.JOIN:
                self._fleet.join(change.rank, first_beat_s=self._scenario.replicas.heartbeat_s)
            case ChangeKind.LEAVE:
                self._fleet.leave(change.rank, known_after_s=lag_s)
            case ChangeKind.CRASH:
                for request_id in self._fleet.crash(change.rank):
                    self._books.finished(request_id, now=self._agenda.now_s)
                    sent = self._found.sent[request_id]
                    self._route(sent.number, arrival_s=sent.arrival_s)
        self._agenda.after(lag_s, partial(self._tell_members, self._fleet.members))

    def _tell_members(self, members: tuple[Replica, ...]) -> None:
        for process in self._routers:
            process.set_replicas(members)

    def _sample_books(self) -> None:
        """Check the reservations as a decision would see them now: those that have expired are gone."""
        for process in self._routers:
            process.router.expire(now=self._agenda.now_s)
            self._found.samples.append(
                self._books.sample(process.router, self._fleet.processes(), now=self._agenda.now_s)
            )

    def _sample_caches(self) -> None:
        if not self._is_over:
            self._found.cache_samples.append(self._fleet.sample_caches())


def _encoded(batch: ReceiptBatch, receipts: Sequence[Receipt]) -> bytes:
    return encode(batch.sender, batch.number, receipts, batch.kv_updates)
