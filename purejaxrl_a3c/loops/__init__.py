"""Loops that act and learn in turn; each builds an `Algorithm` from its parts."""
