"""Library of the MLPerf text-to-image benchmark workflow: plain arguments in, values out."""
