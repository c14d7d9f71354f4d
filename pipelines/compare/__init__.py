"""Compare the methods of a study: pairs, intervals, tests, claims."""
