"""The configuration: checked, explained, and what follows from it."""
