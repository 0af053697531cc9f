"""Whether replicas find prompts by the keys that the router makes: the engines' self-test, samples, and verdicts."""
