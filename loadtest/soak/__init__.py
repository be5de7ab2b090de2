"""A long run of mixed traffic, after which every request has to be accounted for."""
