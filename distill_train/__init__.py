"""The offline trainer: one loop, and methods that say for a batch what the network must match."""
