"""Puts the questions of a benchmark to a model in each mode and keeps every result as it comes."""
