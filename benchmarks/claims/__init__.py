"""What tutorials say of A3C and A2C, put to the test: see README.md."""
