"""Virtual-time replay of request traces: the production `Router` in front of simulated engines.

Rules of this package: nothing of a decision is made again here, no clock decides anything, and every random number
comes from a generator that was passed in, so a run is a function of its scenario.

trace         requests: how long, which prefix blocks, who continues whom
sessions      who continues whom, where the trace does not say
arrivals      when requests come
tenants       whose request it is, and what is shared
prefix_cache  the blocks that an engine holds
engine        a vLLM-like engine, one step at a time
agenda        what happens when
receipts      what replicas tell the routers
transport     how long messages travel, and what goes wrong with them
fleet         replicas that join, leave and crash
lives         when each was there
scaling       replicas that come and go as an autoscaler decides
serve_autoscaler  Ray Serve's, in virtual time
processes     a replica and a router, each with its side of the messages
books         what the routers have booked, against the truth
simulation    all of it together
findings      what a run finds out as it goes
results       what a run gives, and its summary
bounds        the hit rates of one cache for all, and of an infinite one
intervals     means and ratios over seeds, with their intervals
workload      from a trace file to the requests of a run
experiment    policies compared, run by run; the one place here that reads a clock, to time decisions
parallel      many runs over the cores
estimates     a comparison's numbers over its seeds
report_*      as cells of text, as JSON, and as a page (page, charts) for a browser
options, console, command   the command line
"""
