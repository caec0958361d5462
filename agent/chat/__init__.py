"""The conversation with a chat model: its prompts and messages, and how replies become looks and answers."""
