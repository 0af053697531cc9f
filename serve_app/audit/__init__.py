"""Why prompts do not share their prefixes, what that costs, and how to fix it: `warmroute audit`.

A log of requests is read twice, line by line. The first reading learns which requests belong together and in which
places they differ (`learned.py`). What was learned becomes findings, each with a way to fix it (`kinds/`). The second
reading replays every prompt as it is, and as each remedy would have it, through one prefix cache (`cache_replay.py`):
what a finding costs is what that printed, not an estimate.
"""
