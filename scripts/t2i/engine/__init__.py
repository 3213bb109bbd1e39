"""What a variant is built into, and how it generates."""
