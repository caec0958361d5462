"""How fast giant is, and how much memory it takes: one file for each `giant bench`."""
