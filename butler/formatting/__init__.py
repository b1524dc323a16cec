"""How objects become the bytes of a file, and what becomes of these again."""
