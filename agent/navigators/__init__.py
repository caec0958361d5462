"""Who decides where to look next: `search` asks the local model, `chat` any large multimodal model."""
