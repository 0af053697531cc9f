"""All of it together: requests reach the routers in turn, as HAProxy hands them out, and messages travel."""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import count, cycle
from random import Random

from loadtests.peers.table import make_policy
from loadtests.replay.agenda import Agenda
from loadtests.replay.books import Books, BookSample
from loadtests.replay.engine import Engine, EngineOptions
from loadtests.replay.processes import ReplicaProcess, RouterProcess, make_router
from loadtests.replay.receipts import Batch, Finished, Prefilled
from loadtests.replay.results import RequestRecord, Run
from loadtests.replay.trace import BLOCK_SIZE_TOKENS, TraceRequest
from loadtests.replay.transport import Channel, Fault, Transport
from router import Replica, ReplicaId, RequestId, Reservation, RouteRequest
from serve_app.settings import ReplicaSettings, RouterSettings, RoutingSettings


class Sharing(StrEnum):
    """What routers get to know of each other's requests."""

    ALL = "all"
    NO_RESERVATIONS = "no reservations"
    """Receipts of all requests, but reservations of their own only."""
    NOTHING = "nothing"
    """Nor receipts of requests that others routed."""


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
    sharing: Sharing = Sharing.ALL
    delay_s: float = 0.005
    """How long a message travels."""
    faults: tuple[Fault, ...] = ()
    restarts: tuple[Restart, ...] = ()
    sample_s: float = 0.25
    """How often the routers' books are held against the truth."""
    block_size: int = BLOCK_SIZE_TOKENS
    policy: str = ""
    """Of `loadtests.peers`; empty for the one that the routing settings name."""


@dataclass(slots=True)
class _Findings:
    records: list[RequestRecord] = field(default_factory=list)
    samples: list[BookSample] = field(default_factory=list)
    num_finished: int = 0
    num_asked: int = 0
    num_agreed: int = 0


@dataclass(frozen=True, slots=True)
class _Sent:
    request: TraceRequest
    router_name: str


class Simulation:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._agenda = Agenda()
        self._transport = Transport(
            delay_s=scenario.delay_s, faults=scenario.faults, rng=Random(f"transport {scenario.seed}")
        )
        self._members = tuple(
            Replica(ReplicaId(f"replica-{rank}"), rank, scenario.engine.kv_capacity_tokens)
            for rank in range(scenario.num_replicas)
        )
        self._replicas = {
            member.replica_id: ReplicaProcess(
                member.replica_id, Engine(scenario.engine, block_size=scenario.block_size), self._agenda, self._on_batch
            )
            for member in self._members
        }
        self._generations = count()
        self._routers = [self._start_router(index) for index in range(scenario.num_routers)]
        self._turns = cycle(range(scenario.num_routers))
        self._books = Books(settle_s=2 * scenario.delay_s)
        self._sent: dict[RequestId, _Sent] = {}
        self._found = _Findings()

    def run(self) -> Run:
        """Everything from the first arrival until the last reservation would have expired."""
        self._plan()
        while self._found.num_finished < len(self._scenario.requests):
            self._agenda.step()
        self._agenda.run_until(self._agenda.now_s + self._scenario.routers.reservation_ttl_s)
        for process in self._routers:
            process.router.expire(now=self._agenda.now_s)
            process.router.check_integrity()
        return Run(
            records=tuple(self._found.records),
            samples=tuple(self._found.samples),
            num_finished=self._found.num_finished,
            num_asked=self._found.num_asked,
            num_agreed=self._found.num_agreed,
            replica_to_computed_tokens={
                replica_id: replica.engine.num_computed_tokens for replica_id, replica in self._replicas.items()
            },
            router_to_reservations_left={
                process.name: process.router.cluster.load.num_reservations for process in self._routers
            },
        )

    def _plan(self) -> None:
        scenario = self._scenario
        for number, request in enumerate(scenario.requests):
            self._agenda.at(request.arrival_s, partial(self._arrive, RequestId(f"request-{number}"), request))
        for restart in scenario.restarts:
            self._agenda.at(restart.at_s, partial(self._restart, restart))
        for member in self._members:  # replicas do not beat together
            period_s = scenario.replicas.heartbeat_s
            first_s = period_s * (member.rank + 1) / scenario.num_replicas
            self._agenda.every(period_s, self._replicas[member.replica_id].beat, first_s=first_s)
        self._agenda.every(scenario.sample_s, self._sample_books, first_s=scenario.sample_s)

    def _arrive(self, request_id: RequestId, request: TraceRequest) -> None:
        router = self._routers[next(self._turns)]
        asked = RouteRequest(
            request_id,
            model="",
            tenant="",
            num_prompt_tokens=request.num_prompt_tokens,
            block_hashes=request.block_hashes,
        )
        answers = [self._would_choose(other, asked) for other in self._routers if other is not router]
        decision, reservation = router.router.choose(asked, now=self._agenda.now_s)
        self._found.num_asked += len(answers)
        self._found.num_agreed += answers.count(decision.replica_id)
        self._sent[request_id] = _Sent(request, router.name)
        self._books.sent(request_id, now=self._agenda.now_s)
        self._tell_others(router, reservation)
        self._replicas[decision.replica_id].submit(request_id, request)

    def _would_choose(self, process: RouterProcess, request: RouteRequest) -> ReplicaId:
        """What the router would choose now; nothing is booked."""
        process.router.prepare(now=self._agenda.now_s)
        return process.router.policy.choose(request, process.router.cluster).replica.replica_id

    def _tell_others(self, router: RouterProcess, reservation: Reservation) -> None:
        if self._scenario.sharing is not Sharing.ALL:
            return
        for other in self._routers:
            if other is not router:
                self._carry(Channel.RESERVATIONS, router.name, other, partial(self._reserve, other, reservation))

    def _reserve(self, process: RouterProcess, reservation: Reservation) -> None:
        process.router.on_reserved(reservation, now=self._agenda.now_s)

    def _on_batch(self, batch: Batch) -> None:
        for receipt in batch.receipts:
            match receipt:
                case Prefilled():
                    self._record(batch.replica_id, receipt)
                case Finished():
                    self._books.finished(receipt.request_id, now=self._agenda.now_s)
                    self._found.num_finished += 1
        for router in self._routers:
            heard = self._only_own(batch, router) if self._scenario.sharing is Sharing.NOTHING else batch
            self._carry(Channel.RECEIPTS, batch.replica_id, router, partial(self._receive, router, heard))

    def _receive(self, process: RouterProcess, batch: Batch) -> None:
        process.on_batch(batch, now=self._agenda.now_s)

    def _carry(self, channel: Channel, sender: str, receiver: RouterProcess, deliver: partial[None]) -> None:
        for delay_s in self._transport.delays(channel, sender=sender, receiver=receiver.name, now=self._agenda.now_s):
            self._agenda.after(delay_s, deliver)

    def _only_own(self, batch: Batch, router: RouterProcess) -> Batch:
        own = tuple(each for each in batch.receipts if self._sent[each.request_id].router_name == router.name)
        return Batch(batch.replica_id, batch.number, own, batch.outstanding)

    def _record(self, replica_id: ReplicaId, receipt: Prefilled) -> None:
        arrival_s = self._sent[receipt.request_id].request.arrival_s
        self._found.records.append(
            RequestRecord(
                request_id=receipt.request_id,
                arrival_s=arrival_s,
                replica_id=replica_id,
                ttft_s=self._agenda.now_s - arrival_s,
                prompt_tokens=receipt.prompt_tokens,
                cached_tokens=receipt.cached_tokens,
            )
        )

    def _start_router(self, index: int) -> RouterProcess:
        name = f"router-{index}"
        rng = Random(f"{name} {next(self._generations)} {self._scenario.seed}")
        scenario = self._scenario
        policy = make_policy(
            scenario.policy or scenario.routing.policy,
            scenario.routing.policy_options(),
            rng,
            block_size=scenario.block_size,
            engine_of=lambda replica_id: self._replicas[replica_id].engine,
        )
        router = make_router(self._members, policy=policy, block_size=scenario.block_size, routers=scenario.routers)
        return RouterProcess(name, router)

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
        for member in self._members:
            state = peer.router.export(member.replica_id)
            if state is not None:
                joining.router.adopt(state, now=self._agenda.now_s)

    def _sample_books(self) -> None:
        """As a decision now would see them: what has expired is not booked any more."""
        for process in self._routers:
            process.router.expire(now=self._agenda.now_s)
            self._found.samples.append(
                self._books.sample(process.router, self._replicas.values(), now=self._agenda.now_s)
            )
