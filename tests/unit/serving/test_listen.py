import socket

import pytest

from onceserve_serving.listener import accept_waiting, hold_back, listen


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("", "127.0.0.1")])
def test_answers_do_not_wait_for_acknowledgements(host: str, address: str) -> None:
    with listen(host, 0) as listener:
        client = socket.create_connection((address, listener.getsockname()[1]))
        connection, _ = listener.accept()
        with client, connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_that_is_taken_is_an_error() -> None:
    with listen("127.0.0.1", 0) as listener, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", listener.getsockname()[1])


def connected(listener: socket.socket) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=0.2)


def test_what_has_connected_is_accepted_when_the_listener_closes() -> None:
    listener = listen("127.0.0.1", 0)
    listener.setblocking(False)
    clients = [connected(listener) for _ in range(5)]
    connections = accept_waiting(listener)
    assert listener.fileno() == -1
    for client, connection in zip(clients, connections, strict=True):
        with client, connection:
            connection.sendall(b"x")
            assert client.recv(1) == b"x"


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_held_back_a_listener_lets_nobody_new_connect_and_keeps_who_has(host: str) -> None:
    with listen(host, 0) as listener:
        first = connected(listener)
        hold_back(listener)
        with pytest.raises(TimeoutError):
            connected(listener)
        connection, _ = listener.accept()
        with first, connection:
            first.sendall(b"question")
            assert connection.recv(8) == b"question"
