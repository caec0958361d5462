"""Networks that turn tiles, slides and texts into vectors. Nothing here knows slides or files of features."""
