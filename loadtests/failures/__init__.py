"""What clients see when processes die or too many requests come.

python -m loadtests.failures engine
python -m loadtests.failures engine --kill actor
python -m loadtests.failures router --both
python -m loadtests.failures overload
"""
