"""What pods themselves tell: verification before they get traffic, measurements while they do."""
