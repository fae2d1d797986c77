"""Timings of the product, made by driving it from outside. Each prints JSON with the facts of the machine."""
