"""The functions and classes that users import."""
