"""The report of a study: its material, its contents, what is drawn."""
