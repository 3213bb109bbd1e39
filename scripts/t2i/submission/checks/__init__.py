"""Rules on a submission tree."""
