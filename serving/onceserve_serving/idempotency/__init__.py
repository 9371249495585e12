"""One answer for each idempotency key."""
