"""Ports: distinct, free with their gRPC partners, and the same again while nobody took them."""

import random
import socket
import subprocess
import sys
from pathlib import Path

from laptop.ports import GRPC_OFFSET, LOOPBACK, free_ports, remembered_ports


def test_ports_are_distinct_and_leave_room_for_their_grpc_partners() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert max(ports) < 22_000


def test_every_port_and_its_partner_can_be_bound() -> None:
    for port in free_ports(5):
        for number in (port, port + GRPC_OFFSET):
            with socket.socket() as server:
                server.bind((LOOPBACK, number))


def test_ports_that_a_living_process_was_given_are_given_to_no_other() -> None:
    draw = "import random; from laptop.ports import free_ports; random.seed(1); print(free_ports(3)); input()"
    with subprocess.Popen(
        [sys.executable, "-c", draw], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        theirs = other.stdout.readline()
        random.seed(1)
        ours = free_ports(3)
        other.stdin.close()
    assert not {str(port) for port in ours} & set(theirs.strip("[]\n").split(", "))
    random.seed(1)
    assert str(free_ports(3)) == theirs.strip()


def test_ports_are_remembered(tmp_path: Path) -> None:
    first = remembered_ports(tmp_path / "ports.json", ("a", "b"))
    assert remembered_ports(tmp_path / "ports.json", ("a", "b")) == first


def test_ports_are_drawn_again_when_another_program_took_one(tmp_path: Path) -> None:
    first = remembered_ports(tmp_path / "ports.json", ("a", "b"))
    with socket.socket() as taken:
        taken.bind((LOOPBACK, first["a"] + GRPC_OFFSET))
        taken.listen()
        again = remembered_ports(tmp_path / "ports.json", ("a", "b"))
    assert again["a"] != first["a"]


def test_ports_are_drawn_again_when_the_file_is_damaged_or_of_another_version(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    for text in ("{", "[1]", '{"a": 13000}'):
        file.write_text(text)
        assert set(remembered_ports(file, ("a", "b"))) == {"a", "b"}
