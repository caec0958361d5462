"""Comparison of this installation's networks with recorded outputs of the reference networks."""
