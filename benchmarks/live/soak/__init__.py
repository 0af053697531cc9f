"""Conversations at a steady rate for a long time: what grows, what fails, what is left.

python -m benchmarks soak --minutes 30 --rate 8
"""
