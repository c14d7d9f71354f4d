"""The parts of prepare: from raw files, as a data card describes them, to the canonical layout."""
