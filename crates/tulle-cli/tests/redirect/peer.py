"""Sockets in one network namespace and under one user, driven line by line from standard input.

Each line is a JSON list, each is answered by one line. What listens says its name and the original
destination of the connection first, then repeats what it is told.
"""

import json
import os
import socket
import struct
import sys
import threading

LIMIT_SECONDS = 5
SO_ORIGINAL_DST = 80
connections = {}


def original(connection):
    """Where the connection was going before it was redirected, as the kernel remembers it."""
    try:
        if connection.family == socket.AF_INET:
            raw = connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
            return f"{socket.inet_ntoa(raw[4:8])}:{struct.unpack('!H', raw[2:4])[0]}"
        raw = connection.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
        address = socket.inet_ntop(socket.AF_INET6, raw[8:24])
        return f"[{address}]:{struct.unpack('!H', raw[2:4])[0]}"
    except OSError:
        return "-"


def serve(name, listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=repeat, args=(name, connection), daemon=True).start()


def repeat(name, connection):
    with connection:
        try:
            connection.sendall(f"{name} {original(connection)}\n".encode())
            while data := connection.recv(4096):
                connection.sendall(data)
        except OSError:
            pass


def listen(name, port):
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen()
        threading.Thread(target=serve, args=(name, listener), daemon=True).start()
    return "listening"


def read_line(connection):
    line = b""
    while not line.endswith(b"\n"):
        data = connection.recv(1)
        if not data:
            return "closed"
        line += data
    return line.decode().strip()


def connect(name, address, port, source="", mark=0):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(LIMIT_SECONDS)
    if mark:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    if source:
        connection.bind((source, 0))
    connection.connect((address, port))
    connections[name] = connection
    return read_line(connection)


def say(name, text):
    connections[name].sendall(f"{text}\n".encode())
    return read_line(connections[name])


def answer(verb, arguments):
    try:
        return {"listen": listen, "connect": connect, "say": say}[verb](*arguments)
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silent"
    except OSError as error:
        return f"error: {error.strerror}"


user = int(sys.argv[1])
os.setgroups([])
os.setgid(user)
os.setuid(user)
print("ready", flush=True)
for request in sys.stdin:
    verb, *arguments = json.loads(request)
    print(answer(verb, arguments), flush=True)
