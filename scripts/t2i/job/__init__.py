"""What runs around a rule and can change no result."""
