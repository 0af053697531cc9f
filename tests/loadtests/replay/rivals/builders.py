"""Routers in front of engines that are in a given state."""

from random import Random

from loadtests.replay.engine import Engine
from loadtests.replay.rivals.table import make_policy
from router import Reason, ReplicaId, RequestId, Reservation
from serve_app.settings.schema import EngineModelSettings, RouterSettings
from tests.loadtests.replay.builders import BLOCK_SIZE, make_engine, make_replicas, make_route_request
from tests.loadtests.replay.builders import make_trace_request as prompt


class Cluster:
    """A router with a policy by name, and its engines by rank. Nothing happens by itself."""

    def __init__(self, policy: str, *, num_replicas: int) -> None:
        replicas = make_replicas(num_replicas)
        self.replica_ids = [replica.replica_id for replica in replicas]
        self.engines = [make_engine() for _ in replicas]
        self.router = RouterSettings().make_router(
            policy=make_policy(policy, Random(0), block_size=BLOCK_SIZE, engine_of=self._engine_of),
            block_size=BLOCK_SIZE,
            engine_model=EngineModelSettings(),
        )
        self.router.set_replicas(replicas)

    def submit(self, rank: int, *blocks: int, steps: int = 0) -> None:
        """A request that went to a replica, whose engine then makes some steps."""
        request = prompt(*blocks, output_tokens=99)
        routed = make_route_request(f"at {rank}: {blocks}", request)
        self.router.on_reserved(
            Reservation(routed, self.replica_ids[rank], 0, is_computed=True, pending_tokens=routed.num_prompt_tokens),
            now=0,
        )
        self.engines[rank].submit(routed.request_id, request)
        for _ in range(steps):
            self.engines[rank].start_step()
            self.engines[rank].finish_step()

    def request_id(self, rank: int, *blocks: int) -> RequestId:
        """Of a request that went to a replica."""
        return RequestId(f"at {rank}: {blocks}")

    def end(self, rank: int, *blocks: int) -> None:
        """The router hears that it is over."""
        self.router.on_finished(self.request_id(rank, *blocks), now=0)

    def chosen(self, *blocks: int) -> tuple[int, Reason]:
        """The rank that would be chosen for a prompt of these blocks, and why."""
        asked = make_route_request("asked", prompt(*blocks))
        self.router.prepare(now=0)
        choice = self.router.policy.choose(asked, self.router.cluster)
        return choice.replica.rank, choice.reason

    def _engine_of(self, replica_id: ReplicaId) -> Engine:
        return self.engines[self.replica_ids.index(replica_id)]
