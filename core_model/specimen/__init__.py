"""What lies on a slide: sections and cores by name, annotated regions, and what is out of focus or folded."""
