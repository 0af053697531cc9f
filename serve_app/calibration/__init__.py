"""Measures how long an engine's steps take: `warmroute calibrate`.

place       which replica, and how it is reached
bystanders  whether others use it at the same time
probe       sends requests to it and takes the times
streams     what the chunks of streamed answers tell
fit         from times to constants
main        all of it, and what is printed
"""
