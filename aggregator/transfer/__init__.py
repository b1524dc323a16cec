"""What goes from one repository to another, and to hosts that share nothing with it."""
