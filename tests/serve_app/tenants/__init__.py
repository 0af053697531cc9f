"""Tests of whose a request is."""
