"""Train a run: a training that survives kills and does not depend on the machine."""
