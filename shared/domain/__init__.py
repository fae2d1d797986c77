"""Pure Python rules of the product: no I/O, no framework, standard library only."""
