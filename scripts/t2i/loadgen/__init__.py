"""MLPerf LoadGen: the system under test, its runs, and what they show."""
