"""What docs/operate/autoscaling.md shows can be used."""

import re
from pathlib import Path

import yaml

from serve_app.settings.schema import AUTOSCALING_POLICY, Settings

PAGE = Path(__file__).parents[3] / "docs" / "operate" / "autoscaling.md"


def test_the_example_is_valid() -> None:
    """For our settings, and for Serve."""
    from ray.serve.config import AutoscalingConfig

    example = re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example is not None
    settings = Settings.model_validate(yaml.safe_load(example[1]))
    config = AutoscalingConfig(**settings.llm["deployment_config"]["autoscaling_config"])
    assert config.policy.policy_function == AUTOSCALING_POLICY
