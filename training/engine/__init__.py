"""The training loop under every stage: batches, processes, ZeRO, logs, and resuming exactly."""
