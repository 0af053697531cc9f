"""How many replicas: by uncached prefill tokens and KV memory, instead of by requests (docs/operate/autoscaling.md).

stats         what a replica says of its work
policy        from that to a number of replicas; pure
serve_policy  the same as Ray Serve calls it
"""
