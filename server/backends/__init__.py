"""What runs the graphs: each backend loads families and executes their stages."""
