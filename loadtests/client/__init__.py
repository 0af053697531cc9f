"""One request to a server and the record of what became of it."""
