"""What tools could leave behind for the user to run: it is found, kept from them, or undone."""
