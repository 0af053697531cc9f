"""Tables, charts, pages, JSON and numbers over samples: one kit for every report."""
