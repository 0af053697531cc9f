"""`warmroute demo`: real multi-turn conversations through the running server, one policy after the other."""
