"""One kernel facility a file: each is one wall of the sandbox."""
