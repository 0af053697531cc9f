"""What `loadtests/locustfile.py` is made of.

Importing Locust patches the standard library for the whole process, so only `load_run` and the locustfile do; tests
import the others.
"""
