"""The layer below the algorithms: random numbers, collectives over devices, deferred imports."""
