"""Autoscaling in virtual time: our policy against Serve's default, over a day, and when prompts hit more or less.

Both are replayed with the production router, the production policy and Serve's own code around it
(`loadtests.replay.scaling`).
"""
