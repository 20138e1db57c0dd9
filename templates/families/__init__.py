"""Templates, a file for each family: its ``TEMPLATES`` are functions that each make a ``Graph``, named as its file."""
