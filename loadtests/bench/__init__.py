"""`warmroute bench`: the same sessions through several routings in turn on one cluster, over loads; ours and Ray's."""
