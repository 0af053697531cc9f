"""Finding the replicas' own ports."""

from pathlib import Path

from serve_app.local.haproxy import replica_urls

CONFIG = """
backend http-warmroute
    server SERVE_REPLICA_warmroute-LLMReplica_demo-8o4pfkkq 127.0.0.1:30003 check observe layer4
    server SERVE_REPLICA_warmroute-LLMReplica_demo-n0mwkks6 127.0.0.1:30002 check observe layer4
    server SERVE_PROXY_ACTOR-fallback-229b0c744c1a22a1 127.0.0.1:8500 check backup
backend http-warmroute-ops
    server SERVE_REPLICA_warmroute-ops-Ops-xz1k2m3n 127.0.0.1:30004 check observe layer4
backend http-warmroute-via-ingress-request-router
    use-server SERVE_REPLICA_warmroute-LLMReplica_demo-8o4pfkkq if { var(txn.target) -m str "8o4pfkkq" }
    server SERVE_REPLICA_warmroute-LLMReplica_demo-8o4pfkkq 127.0.0.1:30003 track http-warmroute/8o4pfkkq
    timeout server 5s
"""


def test_replicas_are_found_in_haproxys_configuration(tmp_path: Path) -> None:
    """Serve's fallback proxy is none: behind it are all of them, in turn. The operators' application has no engine."""
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "haproxy.cfg").write_text(CONFIG)
    assert replica_urls(str(tmp_path)) == {"8o4pfkkq": "http://127.0.0.1:30003", "n0mwkks6": "http://127.0.0.1:30002"}
    assert replica_urls(str(tmp_path / "elsewhere")) == {}
