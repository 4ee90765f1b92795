"""The installed command `wagi-rt`, which is also `python -m wagi_rt`."""

import signal

# Python would answer Ctrl-C with an exception in the middle of the imports, which is a page of text. Until
# there is something to tidy up (`console.unwind_on_signals`) it ends the process at once.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from wagi_rt.cli import command  # noqa: E402

if __name__ == "__main__":
    command()
