"""Python's collector of garbage, in programs that stay."""

import gc


def keep_what_stays() -> None:
    """Take what was imported out of the collector's sight, and let it look less often.

    It stays for good, and processes forked later go on sharing it. A page or a step makes some ten
    thousand objects more, few of them in circles; by default the collector looks at every 700.
    """
    gc.set_threshold(20_000, 20, 20)
    gc.freeze()
