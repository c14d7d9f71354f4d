"""The experiment pipeline: studies, their stages, and the commands that run them."""
