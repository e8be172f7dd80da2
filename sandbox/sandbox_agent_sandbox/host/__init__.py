"""The host side of a sandbox: starts it, talks to it, and ends what runs in it."""
