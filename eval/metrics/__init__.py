"""Metrics, each computed from labels, texts or vectors alone, with no file or model."""
