"""Formats that are no TIFF and that OpenSlide does not read: each by a library that is an extra."""
