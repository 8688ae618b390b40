"""What several test files share: the strict CuPy double, and what a check needs to run."""
