"""An index over the slides of a folder: what tells which tiles of a cohort are most alike, without reading
all.

The vectors stay in the slides' own files. Here lie what is derived from them: a manifest, and copies of the
vectors in few bits that say which of them need not be looked at.
"""
