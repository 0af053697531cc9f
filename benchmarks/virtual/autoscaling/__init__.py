"""Autoscaling in virtual time: our policy against Serve's default, over a day, and when prompts hit more or less.

Both are replayed with the production router, the production policy and Serve's own code around it
(`loadtests.replay.scaling`).

traffic     sessions of a trace, started again and again at changing rates
day         a day of them
step        the same rate of requests, of which the prompts are suddenly new, and then as before
contenders  who scales
trials      what came of it
"""
