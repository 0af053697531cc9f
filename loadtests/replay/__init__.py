"""Virtual-time replay of request traces: the production `Router` in front of simulated engines.

Rules of this package: nothing of a decision is made again here, no clock is read, and every random number comes
from a generator that was passed in, so a run is a function of its scenario.

trace         requests: how long, which prefix blocks, who continues whom
sessions      who continues whom, where the trace does not say
arrivals      when requests come
prefix_cache  the blocks that an engine holds
engine        a vLLM-like engine, one step at a time
agenda        what happens when
receipts      what replicas tell the routers
transport     how long messages travel, and what goes wrong with them
fleet         replicas that join, leave and crash
processes     a replica and a router, each with its side of the messages
books         what the routers have booked, against the truth
simulation    all of it together
findings      what a run finds out as it goes
results       what a run gives, and its summary
"""
