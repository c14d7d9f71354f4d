"""A trained model: the file that holds it, how it is read, and what it predicts of images."""
