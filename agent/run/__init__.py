"""The run folder: the records in it, the journal of what models and people said, and who may write it."""
