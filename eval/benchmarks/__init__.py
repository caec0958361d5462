"""One file for each benchmark: it turns the benchmark's own format into questions."""
