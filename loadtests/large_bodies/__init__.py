"""Do bodies of the largest size that a router is given whole, or larger, slow down ordinary requests?

python -m loadtests.large_bodies
python -m loadtests.large_bodies --limit-mib 2
"""
