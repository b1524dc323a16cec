"""How work gets done: in this process or in others."""
