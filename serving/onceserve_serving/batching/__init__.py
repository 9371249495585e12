"""Requests that go through a model together, and come apart again."""
