"""The edge: what HAProxy is told beyond Ray's own configuration, so that no client can stall, starve or spy on others.

Ray Serve writes HAProxy's configuration and starts the program that `RAY_SERVE_HAPROXY_BINARY_PATH` names. That is
`warmroute-haproxy` (`serve_app.edge.program`): it adds our rules (`serve_app.edge.rules`) and becomes HAProxy.
"""
