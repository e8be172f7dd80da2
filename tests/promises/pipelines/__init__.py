"""Runs that a CI system starts by a recipe of `scripts/recipes`, and cancels as it does."""
