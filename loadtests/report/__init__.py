"""Tables, plots and numbers over samples, shared by every report."""
