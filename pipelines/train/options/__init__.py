"""What a training does only where its model entry asks for it, one option a module."""
