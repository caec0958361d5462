"""What a model's vectors are worth without its language: retrieval, zero-shot classes, linear probes."""
