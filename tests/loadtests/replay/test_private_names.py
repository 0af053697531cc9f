"""The contract with Ray of what only the replay uses; see tests/serve_app/test_private_names.py."""

import pytest

from tests.serve_app.test_private_names import find

FILE = "../loadtests/replay/serve_autoscaler.py"
NAMES = [
    ("ray.serve._private.autoscaling_metrics_merge", "merge_and_aggregate_arrays"),
    ("ray.serve._private.autoscaling_state", "_resolve_policy_callable"),
    ("ray.serve._private.common", "RUNNING_REQUESTS_KEY"),
    ("ray.serve._private.common", "TimeStampedValue"),
    ("ray.serve._private.constants", "RAY_SERVE_AUTOSCALING_METRIC_RECORD_INTERVAL_FACTOR"),
    ("ray.serve.autoscaling_policy", "_apply_delay_logic"),
    ("ray.serve.autoscaling_policy", "_apply_scaling_factors"),
]


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[name for _, name in NAMES])
def test_a_private_name_is_still_there(module: str, name: str) -> None:
    """By import."""
    find(module, name, FILE)
