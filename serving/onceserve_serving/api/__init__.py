"""The HTTP edge: what the domain says, in HTTP's terms."""
