"""Notebooks: calls of tasks in cells are steps of one run per notebook, and cells can be steps themselves."""
