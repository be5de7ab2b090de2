"""HTTP below the surfaces: connections and what bounds them, request and reply, bodies, bounded JSON."""
