"""Our decision against every rival's in the simulator: answers, traces, unlike engines, several routers."""
