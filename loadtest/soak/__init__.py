"""A long run of mixed traffic, at the end of which every request is accounted for."""
