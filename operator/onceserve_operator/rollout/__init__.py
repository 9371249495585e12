"""Rollout: which revision gets traffic, how many pods each one has, and why. Pure: the world and the time go in."""
