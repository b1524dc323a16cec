"""Policies: hierarchical settings as files have them, and dictionaries that say what may be in one."""
