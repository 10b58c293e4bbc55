"""Speed of the same work in other packages, each in an environment of its own."""
