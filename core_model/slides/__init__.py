"""Slides as pixels: open a file, read a box at a resolution, find the tissue."""
