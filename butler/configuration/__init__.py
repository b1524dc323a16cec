"""Configuration of a repository: where its database and files are, and who may open them."""
