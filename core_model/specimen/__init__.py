"""What lies on a slide: sections and cores by name, and which tissue is out of focus or folded."""
