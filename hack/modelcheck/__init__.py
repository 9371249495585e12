"""Checks the model of the protocol in formal/ with TLC, and that each mutant of it fails."""
