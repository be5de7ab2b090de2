"""HTTP below the surfaces: connections and their limits, requests and replies, bodies, bounded JSON."""
