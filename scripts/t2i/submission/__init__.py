"""The submission: its tree, the machine it describes, and who judges it."""
