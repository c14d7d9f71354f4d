"""Writes the data card of images and labels that lie in folders, from what it finds there."""
