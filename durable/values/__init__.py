"""Values and exceptions to bytes and back, locked where they are sensitive."""
