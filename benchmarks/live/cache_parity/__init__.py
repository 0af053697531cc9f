"""Is the simulator honest? One vLLM engine and the simulated one are given the same requests, one after the other.

questions  what is asked: conversations of our own making, or a trace scaled down
replica    the engine that answers
simulated  the same requests through the simulator's engine
result     what both reused, request by request
"""
