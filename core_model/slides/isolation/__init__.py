"""Slides of strangers: a child process parses them, within limits of memory and time, and gives pixels."""
