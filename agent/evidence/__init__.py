"""Checks of an answer that need no model: do its claims rest on steps that really showed them?"""
