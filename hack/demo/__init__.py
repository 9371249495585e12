"""The demo: a model served on a real cluster, from one command."""
