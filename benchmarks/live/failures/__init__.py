"""What clients see when processes die or too many requests come.

python -m benchmarks failures engine
python -m benchmarks failures engine --kill actor
python -m benchmarks failures router --both
python -m benchmarks failures overload
"""
