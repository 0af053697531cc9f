"""What routing and caching are worth on one real GPU, engine by engine, without Ray.

model       a model's shape, with random weights and a tokenizer made on the spot
engines     vLLM's own servers, started one after the other and stopped
engine      one of them, as its client sees it
ttft        time to the first token, cold and warm, and the constants of the engine's steps
sessions    conversations of token ids, made from a seed
driver      one run: the production router chooses, and hears what became of it
comparison  policies in turn on the same sessions

Runs wherever vLLM's API server does, also with a release that is not made for our Ray, so nothing here imports Ray.
"""
