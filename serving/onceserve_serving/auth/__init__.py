"""API keys: who may call, and as which tenant."""
