"""What the kernel is asked to refuse: rules of Landlock and filters of system calls, as data."""
