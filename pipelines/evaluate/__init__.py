"""Evaluate trained weights: the scores, and what later questions need."""
