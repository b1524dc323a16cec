"""Execution of quanta: tasks, and what runs them."""
