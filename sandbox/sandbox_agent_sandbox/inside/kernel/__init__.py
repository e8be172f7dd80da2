"""System calls that Python lacks, and a few ways of starting processes that need them."""
