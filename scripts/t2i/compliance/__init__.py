"""Rules on variants, scenarios and audits, and the verdict."""
