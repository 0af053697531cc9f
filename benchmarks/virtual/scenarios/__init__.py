"""Situations that a router has to withstand: a hot prefix, replicas that come and go, several routers, other workloads.

hot_traffic   a trace with one prefix that becomes hot
hot_prefix    what a peak of it costs, and when it is over
ring_moves    which keys move when a replica comes or goes, by the ring alone
membership    what a change of the replicas costs under load
routers       several routers against one
workloads     loads from low to too much, agents, and requests that share nothing
"""
