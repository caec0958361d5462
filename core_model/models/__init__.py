"""Whole models and encoders by name or folder: `load_model` and `load_tile_encoder` live here."""
