"""Reports on many slides: a plan, workers that each take one slide, and the pages that list them all."""
