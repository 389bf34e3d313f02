"""Ports: distinct, free with their gRPC partners, and the same again while nobody took them."""

import socket
from pathlib import Path

from llambert_etl.stack.ports import GRPC_OFFSET, LOOPBACK, free_ports, remembered_ports


def test_ports_are_distinct_and_leave_room_for_their_grpc_partners() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert max(ports) < 22_000


def test_every_port_and_its_partner_can_be_bound() -> None:
    for port in free_ports(5):
        for number in (port, port + GRPC_OFFSET):
            with socket.socket() as server:
                server.bind((LOOPBACK, number))


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
