"""How bytes are reached: stores of objects, durable files, locks, and the errors of all that."""
