"""How the raw files of a data set are had: one module a purpose, `parts` puts them together."""
