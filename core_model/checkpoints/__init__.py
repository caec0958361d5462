"""Models on disk: our checkpoint folder, and LLaVA's format in which WSI-LLaVA is released."""
