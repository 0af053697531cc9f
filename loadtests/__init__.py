"""Load tests that users run to size and to compare: Locust, replay, plan and bench."""
