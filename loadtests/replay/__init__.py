"""Virtual-time replay of request traces: the production `Router` in front of simulated engines.

Rules of this package: nothing of a decision is made again here, no clock decides anything, and every random number
comes from a generator that was passed in, so a run is a function of its scenario.

trace         requests: how long, which prefix blocks, which one continues which
sessions      which request continues which, where the trace does not say
arrivals      when requests come
tenants       whose request it is, and what is shared
prefix_cache  the blocks that an engine has cached
engine        a vLLM-like engine, one step at a time
agenda        what happens when
transport     how long messages travel, and what goes wrong with them
fleet         replicas that join, leave and crash
lives         when each was there
scaling       replicas that come and go as an autoscaler decides
serve_autoscaler  Ray Serve's, in virtual time
processes     a replica that writes production's messages, and a router behind production's inbox
reservation_check  the routers' reservations, compared with the truth
simulation    all of it together
findings      what is recorded in the course of a run
results       what a run gives, and its summary
bounds        the hit rates of one cache for all, and of an infinite one
workload      from a trace file to the requests of a run
experiment    policies compared, run by run; the one place here that reads a clock, to time decisions
parallel      many runs over the cores
estimates     a comparison's numbers over its seeds
report, report_html  a comparison as tables, as JSON, and as a page for a browser (`loadtests.report`)
sizing, sizing_report  how many replicas meet a target, and its report
options, command, plan_command  the command lines
"""
