"""Whole runs, on a small trace."""

from collections import defaultdict
from dataclasses import replace
from itertools import count
from random import Random

import pytest

from loadtests.replay.engine import EngineOptions
from loadtests.replay.fleet import ChangeKind, MembershipChange
from loadtests.replay.results import RequestRecord, hit_rate
from loadtests.replay.sharing import Sharing
from loadtests.replay.simulation import Restart, Scenario, Simulation
from loadtests.replay.tenants import assign_tenants
from loadtests.replay.transport import Channel, Fault, delayed, dropped, duplicated, reordered
from router import Loss, ReplicaId, ShadowTotals
from router.policies import PolicyName
from serve_app.settings.schema import RouterSettings, RoutingSettings
from tests.loadtests.replay.builders import BLOCK_SIZE, make_scenario, make_trace_request

ALL = frozenset(Channel)
RECEIPTS = frozenset({Channel.RECEIPTS})
MIDDLE = (8.0, 18.0)


@pytest.mark.parametrize("policy", ["prefix_affinity", "round_robin", "power_of_two", "least_loaded"])
def test_nothing_is_lost_and_nothing_is_made_up(policy: PolicyName) -> None:
    """Every request finishes once, and its tokens were either computed or cached."""
    scenario = replace(make_scenario(), routing=RoutingSettings(policy=policy))
    run = Simulation(scenario).run()
    assert run.num_finished == len(run.records) == len({record.request_id for record in run.records}) == 48
    prompt_tokens = sum(request.num_prompt_tokens for request in scenario.requests)
    cached_tokens = sum(record.cached_tokens for record in run.records)
    assert sum(run.replica_to_computed_tokens.values()) == prompt_tokens - cached_tokens
    assert 0 < cached_tokens < prompt_tokens
    assert all(record.ttft_s > 0 for record in run.records)
    assert not any(sample.num_wrong for sample in run.samples)


def test_a_run_is_a_function_of_its_scenario() -> None:
    """The same again for the same seed, and something else for another."""
    scenario = replace(make_scenario(), faults=(Fault(reordered(1), ALL, *MIDDLE),))
    first, second = Simulation(scenario).run(), Simulation(scenario).run()
    other = Simulation(replace(scenario, seed=2)).run()
    assert first == second
    assert first != other


def test_routers_that_share_all_in_time_decide_as_one() -> None:
    """Requests are further apart than messages travel, so two routers and four are as good as one."""
    one, two, four = (Simulation(make_scenario(num_routers=num)).run() for num in (1, 2, 4))
    assert two.records == four.records == one.records
    assert (two.agreement, two.num_asked, four.num_asked) == (1, 48, 3 * 48)


def test_routers_that_do_not_share_reservations_disagree() -> None:
    """Receipts alone do not tell what was sent where: without the reservation they change nothing."""
    no_reservations, nothing = (
        Simulation(replace(make_scenario(), sharing=sharing)).run()
        for sharing in (Sharing.NO_RESERVATIONS, Sharing.NOTHING)
    )
    assert no_reservations.agreement < 0.9
    assert nothing.records == no_reservations.records
    assert any(sample.num_wrong for sample in no_reservations.samples)


def test_routers_that_share_their_load_alone_do_not_know_of_each_others_prefixes() -> None:
    """What is booked is right all the time, but a conversation that comes to another router starts anew."""
    load_only, everything = (
        Simulation(replace(make_scenario(), sharing=sharing)).run() for sharing in (Sharing.LOAD_ONLY, Sharing.ALL)
    )
    assert not any(sample.num_wrong for sample in load_only.samples)
    assert set(load_only.router_to_reservations_left.values()) == {0}
    assert load_only.agreement < 0.9
    assert hit_rate(load_only.records) < hit_rate(everything.records)


def test_a_router_that_adopts_its_peers_state_decides_as_before() -> None:
    """One that starts empty does not."""
    scenario = make_scenario()
    undisturbed = Simulation(scenario).run()
    for is_adopting in (True, False):
        restarts = (Restart(15, (0,), is_adopting=is_adopting),)
        run = Simulation(replace(scenario, restarts=restarts)).run()
        assert (run.records == undisturbed.records) == (run.agreement == 1) == is_adopting


FAULTS = {
    "late": Fault(delayed(1), RECEIPTS, *MIDDLE),
    "lost receipts": Fault(dropped, RECEIPTS, *MIDDLE),
    "lost reservations": Fault(dropped, frozenset({Channel.RESERVATIONS}), *MIDDLE),
    "lost until the end": Fault(dropped, ALL, MIDDLE[0], 1000),
    "one replica silent": Fault(dropped, RECEIPTS, *MIDDLE, sender="replica-1"),
    "one router cut off": Fault(dropped, ALL, *MIDDLE, receiver="router-1"),
    "twice": Fault(duplicated(1), ALL, *MIDDLE),
    "out of order": Fault(reordered(3), ALL, 0, 1000),
}


@pytest.fixture(params=FAULTS)
def faulty(request: pytest.FixtureRequest) -> Scenario:
    """A scenario with a fault."""
    return replace(make_scenario(), faults=(FAULTS[request.param],))


def test_after_any_fault_the_books_are_empty_in_the_end(faulty: Scenario) -> None:
    """And every request was served all the same."""
    run = Simulation(faulty).run()
    assert run.num_finished == 48
    assert run.router_to_reservations_left == {"router-0": 0, "router-1": 0}
    assert not run.samples[-1].num_wrong


def test_without_expiry_lost_messages_would_leave_reservations() -> None:
    """The books can show it: nothing is heard until the end, and reservations live longer than the run looks on."""
    lost = replace(make_scenario(), faults=(FAULTS["lost until the end"],))
    patient = RouterSettings(arrival_ttl_s=1000, reservation_ttl_s=1000)
    run = Simulation(replace(lost, routers=patient)).run()
    wrong = [sample.num_wrong for sample in run.samples if 40 < sample.time_s < 900]
    assert min(wrong) > 10


def test_the_replicas_lists_make_up_for_lost_receipts() -> None:
    """Reservations that would live for ever otherwise are right again with the first list after the fault,
    except for requests that came and went during the fault: nobody ever said that they had arrived.
    """
    patient = RouterSettings(arrival_ttl_s=1000, reservation_ttl_s=1000)
    lost = replace(make_scenario(), routers=patient, faults=(FAULTS["lost receipts"],))
    run = Simulation(lost).run()
    during = max(sample.num_wrong for sample in run.samples if sample.time_s < MIDDLE[1])
    after = max(sample.num_wrong for sample in run.samples if MIDDLE[1] + 1 < sample.time_s < 900)
    assert 0 < after < during


def test_caches_are_sampled_while_requests_run() -> None:
    """Of three replicas, each block held is held by one to three, and the common system prompt by more than one."""
    run = Simulation(replace(make_scenario(), cache_sample_s=5)).run()
    assert [sample.time_s for sample in run.cache_samples] == [5.0 * number for number in range(1, 7)]
    assert all(each.num_distinct < each.num_blocks <= 3 * each.num_distinct for each in run.cache_samples)


def test_decisions_are_timed_by_the_clock_that_is_given() -> None:
    """One that ticks once a reading: each of the 48 decisions takes a second, and nothing else changes."""
    ticks = count()
    run = Simulation(make_scenario(), clock=lambda: float(next(ticks))).run()
    assert run.deciding_s == 48
    assert run == Simulation(make_scenario()).run()


def test_other_routers_are_asked_only_if_wanted() -> None:
    """Which our policy does not notice."""
    asked, silent = (Simulation(replace(make_scenario(), is_asking=each)).run() for each in (True, False))
    assert (asked.num_asked, silent.num_asked) == (48, 0)
    assert asked.records == silent.records


@pytest.mark.parametrize("sharing", [Sharing.ALL, Sharing.NOTHING])
def test_the_routers_funnels_are_the_truth(sharing: Sharing) -> None:
    """Every prompt is counted by one of them; what was reused is what the engines say, and the rest has its causes."""
    run = Simulation(replace(make_scenario(num_routers=3), sharing=sharing)).run()
    funnel = run.funnel
    funnel.check_integrity()
    assert funnel.prompts == len(run.records) == 48
    assert funnel.offered == sum(record.prompt_tokens for record in run.records)
    assert funnel.reused == sum(record.cached_tokens for record in run.records)
    assert sum(funnel.lost.values()) == sum(record.computed_tokens for record in run.records)
    assert Loss.NO_KEY not in funnel.lost


def test_so_are_those_of_each_replica_and_tenant() -> None:
    """Of three tenants on three replicas."""
    scenario = make_scenario(num_routers=3)
    weights = {"a": 3.0, "b": 2.0, "c": 1.0}
    by_conversation = [replace(each, session_id=str(each.block_hashes[1] // 1000)) for each in scenario.requests]
    scenario = replace(scenario, requests=assign_tenants(by_conversation, tenant_to_weight=weights, rng=Random(1)))
    run = Simulation(scenario).run()
    truth = defaultdict[tuple[str, str], list[RequestRecord]](list)
    for record in run.records:
        tenant = scenario.requests[int(record.request_id.removeprefix("request-"))].tenant
        truth[record.replica_id, tenant].append(record)
    assert run.funnels.keys() == truth.keys()
    assert {tenant for _, tenant in truth} == weights.keys()
    for key, funnel in run.funnels.items():
        funnel.check_integrity()
        assert funnel.prompts == len(truth[key])
        assert funnel.reused == sum(record.cached_tokens for record in truth[key])
        assert sum(funnel.lost.values()) == sum(record.computed_tokens for record in truth[key])


def test_the_funnel_tells_what_was_lost_with_a_replica() -> None:
    """Of two, one crashes and comes back empty."""
    scenario = make_scenario()
    changes = (MembershipChange(12, ChangeKind.CRASH, 0), MembershipChange(14, ChangeKind.JOIN, 0))
    before, after = (Simulation(each).run().funnel for each in (scenario, replace(scenario, changes=changes)))
    after.check_integrity()
    assert Loss.GONE not in before.lost
    assert after.lost[Loss.GONE] > 0


def test_shadows_are_summed_up_and_change_nothing() -> None:
    """Of both routers together: each shadow has an answer to each of the 48 decisions, and chance would have cost."""
    scenario = make_scenario()
    shadowed = replace(
        scenario, routing=scenario.routing.model_copy(update={"shadow_policies": ["prefix_affinity", "random"]})
    )
    run, alone = Simulation(shadowed).run(), Simulation(scenario).run()
    assert replace(run, shadow_to_totals={}) == alone
    own, other = run.shadow_to_totals["prefix_affinity"], run.shadow_to_totals["random"]
    assert own == ShadowTotals(decisions=48, agreements=48)
    assert (other.decisions, other.failures) == (48, 0)
    assert other.agreements < 48
    assert other.regret_tokens > other.gain_tokens


@pytest.mark.parametrize(
    ("num_blocks", "output_tokens", "interval_s"), [(256, 1, 0.25), (16, 500, 0.06)], ids=["prefill", "decode"]
)
def test_a_replica_ten_times_slower_soon_gets_no_more_than_its_share(
    num_blocks: int, output_tokens: int, interval_s: float
) -> None:
    """Of four with half to do, by the time of prefills alone, or of answers; it is not known to be slow at first."""
    fast = EngineOptions()
    slow = EngineOptions(
        step_s=10 * fast.step_s,
        prefill_tokens_per_s=fast.prefill_tokens_per_s / 10,
        decode_s=10 * fast.decode_s,
        decode_context_s=10 * fast.decode_context_s,
    )
    requests = tuple(
        make_trace_request(
            *range(1000 * number, 1000 * number + num_blocks),
            arrival_s=number * interval_s,
            output_tokens=output_tokens,
        )
        for number in range(round(60 / interval_s))
    )
    scenario = Scenario(
        requests,
        num_replicas=4,
        num_routers=2,
        seed=1,
        engine=fast,
        rank_to_engine={0: slow},
        is_asking=False,
        sample_s=None,
        block_size=BLOCK_SIZE,
    )
    later = [record.replica_id for record in Simulation(scenario).run().records if record.arrival_s > 10]
    assert later.count(ReplicaId("replica-0")) / len(later) <= 0.1 / 3.1
