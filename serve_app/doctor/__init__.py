"""`warmroute doctor`: what a running application and its cluster look like, and whether that is as it should be.

`gathering` asks the dashboard, the nodes, the routers and a client's URL; `cluster_checks` and `routing_checks` judge
what came back, and touch nothing.
"""
