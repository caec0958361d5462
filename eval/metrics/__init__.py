"""Metrics, each computed from labels alone."""
