"""A finished run as pages for people and as GeoJSON for QuPath."""
