"""How the raw files of a data set are had: one module a purpose, `parts` puts them together."""


class Stopped(Exception):
    """Work was left because another part failed or the user interrupted; not an error itself."""
