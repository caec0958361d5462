"""Pretraining of the tile encoder on photographs of real tissue and on procedural tiles."""
