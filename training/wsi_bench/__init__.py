"""WSI-Bench's published files, checked row by row and turned into a cohort folder."""
