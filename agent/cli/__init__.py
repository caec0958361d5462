"""The `giant` command: one file for each command, their shared options, and what is printed."""
