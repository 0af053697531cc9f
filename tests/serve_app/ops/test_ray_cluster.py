"""Which applications are read."""

import pytest

NAMES = ["one", "other"]


@pytest.mark.parametrize(("only", "read"), [(None, NAMES), (["other", "gone"], ["other"]), ([], [])])
async def test_those_that_were_named(only: list[str] | None, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And are there; all where none were."""
    from serve_app.ops import ray_cluster

    monkeypatch.setattr(ray_cluster, "_applications_with_routers", lambda: NAMES)
    cluster = ray_cluster.ServeCluster(only)
    assert await cluster.applications() == read
