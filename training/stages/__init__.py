"""The three stages of WSI-LLaVA: align slides with texts, learn the projector, learn to answer."""
