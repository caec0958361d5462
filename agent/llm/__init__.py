"""Calls to chat models: how they are opened, sent, retried, paid for and written down."""
