"""Between the program and its terminal: output, progress, logs, signals."""
