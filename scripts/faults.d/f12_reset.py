"""Bytes that were acknowledged before a reset reach the client all the same.

Run by itself, in the node's namespace: the endpoint and the client; prints how many bytes came directly, and by the proxy.
"""

import array
import fcntl
import json
import socket
import struct
import sys
import termios
import threading
import time

import f11_files

SIZE = 300_000


def run(trial):
    """Compares what the client gets with what the endpoint was told is received."""
    portico = trial.start(f"--manifests={f11_files.manifest(trial)}")
    if not portico.logged("listeners open"):
        return trial.check("it starts", False, portico.log()[-400:])
    done = trial.node.run(sys.executable, __file__, timeout=60)
    for way, (count, end) in json.loads(done.stdout).items():
        trial.check(f"{way}: {count} bytes, then a reset", (count, end) == (SIZE, "reset"), end)
    portico.stop()


def talk(client):
    """Sends, waits until all is acknowledged, and resets."""
    client.sendall(bytes(SIZE))
    left = array.array("i", [1])
    while left[0]:
        time.sleep(0.01)
        fcntl.ioctl(client.fileno(), termios.TIOCOUTQ, left)
    time.sleep(0.1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def get(address):
    """A client that begins to read late."""
    client, count = socket.create_connection(address, 10), 0
    time.sleep(1)
    try:
        while part := client.recv(65536):
            count += len(part)
    except ConnectionResetError:
        return count, "reset"
    return count, "end"


def main():
    """Directly, and by the proxy."""
    listener = socket.create_server(("10.77.2.1", f11_files.ENDPOINT[1]))

    def accept():
        while True:
            threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    direct = get(("10.77.2.1", f11_files.ENDPOINT[1]))
    print(json.dumps({"directly": direct, "by the proxy": get(("127.0.0.1", f11_files.NODE_PORT))}))


if __name__ == "__main__":
    main()
