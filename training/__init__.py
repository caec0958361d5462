"""Trains a model from nothing, or from pretrained parts, in the steps of a recipe."""
