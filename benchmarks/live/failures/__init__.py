"""What clients see when processes die or too many requests come.

python -m benchmarks.live.failures engine
python -m benchmarks.live.failures engine --kill actor
python -m benchmarks.live.failures router --both
python -m benchmarks.live.failures overload
"""
