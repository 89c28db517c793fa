"""Beyond one machine: passages with their vectors from one store to another."""
