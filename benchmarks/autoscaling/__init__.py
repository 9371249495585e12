"""Load traces replayed through autoscaling policies, against a queueing model of pods that take time to start."""
