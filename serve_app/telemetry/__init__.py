"""Metrics, their dashboard and alerts, and totals that people read."""
