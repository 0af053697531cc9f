"""Do bodies of the largest size that a router is given whole, or larger, slow down ordinary requests?

python -m benchmarks large_bodies
python -m benchmarks large_bodies --limit-mib 2
"""
