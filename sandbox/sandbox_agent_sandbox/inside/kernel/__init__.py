"""System calls, and the few process tricks that need them."""
