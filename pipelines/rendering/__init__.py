"""A report on paper: its sections as Markdown and as an HTML page, with the files beside them."""
