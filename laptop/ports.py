"""Free ports on loopback, from one place, so that no server of the stack takes a port of another."""

import json
import random
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"

# `weed` listens on port + 10000 too. Both halves stay below 32768, where Linux takes ports for outgoing connections.
_FIRST, _LAST = 12_000, 21_999
GRPC_OFFSET = 10_000


def free_ports(count: int) -> list[int]:
    """Return distinct ports that are free, together with their `port + 10000`, and that no other process is given."""
    ports: list[int] = []
    with ExitStack() as held:
        for port in random.sample(range(_FIRST, _LAST + 1), _LAST - _FIRST + 1):
            if len(ports) == count:
                return ports
            # Held until all are found: a port given twice would be worse than one given late.
            with suppress(OSError):
                for number in (port, port + GRPC_OFFSET):
                    held.enter_context(socket.socket()).bind((LOOPBACK, number))
                _claim(port)
                ports.append(port)
    raise OSError(f"{count} free ports were asked for on {LOOPBACK}, and only {len(ports)} are free")


def _claim(port: int) -> None:
    """Keep other processes from being given the port until this one ends: its server may start minutes from now.

    The name lives in Linux's abstract namespace, which holds no file and forgets names with their process. Raise
    OSError where the port is claimed.
    """
    claim = socket.socket(socket.AF_UNIX)
    claim.bind(f"\0llambert-etl-port-{port}")
    claim.detach()  # open until the process ends


def remembered_ports(file: Path, names: Sequence[str]) -> dict[str, int]:
    """Return a port for each name: those of `file` while they are free, so that a stack comes back at its addresses."""
    with suppress(OSError, ValueError):
        ports: dict[str, int] = json.loads(file.read_text())
        if set(ports) == set(names) and all(map(_is_free, ports.values())):
            return ports
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    file.write_text(json.dumps(ports))
    return ports


def _is_free(port: int) -> bool:
    try:
        for number in (port, port + GRPC_OFFSET):
            with socket.socket() as probe:
                # As servers do: connections of the last run that still linger do not make a port taken.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((LOOPBACK, number))
    except OSError:
        return False
    return True
