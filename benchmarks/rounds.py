"""How long calls are timed in turn."""

import time
from collections.abc import Iterator


def rounds(seconds: float, least: int) -> Iterator[int]:
    """Numbers of rounds, from 1, for about ``seconds`` in all.

    At least ``least`` rounds, but three are enough of calls that take many times ``seconds``.
    """
    begin = time.perf_counter()
    done = 0
    while True:
        passed = time.perf_counter() - begin
        enough = done >= least and passed >= seconds
        if enough or (done >= 3 and passed >= 10 * seconds):
            return
        done += 1
        yield done
