"""One loop for every method, and what a run is on disk: checkpoints, log, samples, exports."""
