"""Tile features of a slide: computed, stored, read from other tools' files, compared with training data."""
