"""Conversations at a steady rate for a long time: what grows, what fails, what is left.

python -m loadtests.soak --minutes 30 --rate 8
"""
