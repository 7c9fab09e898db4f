"""Tells a harness what was seen: one line a check, `ok - …` or `not ok - …`, and an exit code."""

import sys


class Checks:
    """The checks of one client."""

    def __init__(self) -> None:
        self.failed = 0

    def that(self, sentence: str, holds: bool, seen: object = "") -> None:
        """Says whether one thing holds, and what was seen instead if not."""
        self.failed += not holds
        print(f"ok - {sentence}" if holds else f"not ok - {sentence}: saw {seen!r}".replace("\n", " "), flush=True)

    def end(self) -> None:
        sys.exit(1 if self.failed else 0)
