"""What lies below the algorithms: random numbers, collectives, deferred imports."""
