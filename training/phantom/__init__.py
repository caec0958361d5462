"""Procedural H&E-like slides with known truth: drawn, described in words, and written as a cohort."""
