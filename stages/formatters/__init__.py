"""What objects of each type are in storages."""
