"""Load for a running Warmroute, or any server with vLLM's API, by Locust. See docs/start/locust.md.

locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 --headless -u 4 --sessions 40 --think-scale 0.01
"""

import sys

# Locust puts this file's folder first, where `statistics.py` would hide the standard library's.
_FOLDER = sys.path.pop(0)
import statistics  # noqa: E402, F401
from typing import Any, ClassVar  # noqa: E402

from locust import User, events, task  # noqa: E402

from loadtests.locust_kit.load_run import LoadRun  # noqa: E402
from loadtests.locust_kit.options import OptionsError, add_arguments  # noqa: E402
from loadtests.locust_kit.page import add_tab  # noqa: E402

sys.path.insert(0, _FOLDER)


class Client(User):
    """A user who has one session after the other; idle where sessions arrive by themselves (`--rate`)."""

    load_run: ClassVar[LoadRun]

    @task
    def session(self) -> None:
        """The next one that no other user has."""
        self.load_run.run_next_session()


def _add_arguments(parser: Any, **_: object) -> None:  # noqa: ANN401
    add_arguments(parser)


def _init(environment: Any, web_ui: Any, **_: object) -> None:  # noqa: ANN401
    try:
        Client.load_run = LoadRun(environment)
    except OptionsError as error:
        sys.exit(f"error: {error}")
    if web_ui is not None:
        add_tab(web_ui, Client.load_run)


events.init_command_line_parser.add_listener(_add_arguments)
events.init.add_listener(_init)
