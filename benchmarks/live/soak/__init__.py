"""Conversations at a steady rate for a long time: what grows, what fails, what is left.

python -m benchmarks.live.soak --minutes 30 --rate 8
"""
