"""Lets Microsoft's client use the loopback device; `loopback.py <script> …` runs a script so."""

import runpy
import sys

from azure.eventhub._pyamqp import _transport

# The client sets the socket's own segment size again, which Linux refuses above 32767 bytes, and
# on the loopback device it is larger.
_transport.KNOWN_TCP_OPTS = set(_transport.KNOWN_TCP_OPTS) - {"TCP_MAXSEG"}

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
