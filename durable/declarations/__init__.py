"""What the decorators say: options, names and signatures of tasks and workflows, found again by their names."""
