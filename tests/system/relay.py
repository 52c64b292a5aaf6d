"""A TCP relay between an assistor and the sponsor, as somebody on the path would have it: keeps every byte, and changes one in each
connection if told to."""
import contextlib
import random
import selectors
import socket
import threading
import time


class Connection:
    def __init__(self, flip):
        self.bytes = [bytearray(), bytearray()]  # to the sponsor, from it
        self.flip = flip  # (direction, offset) or None
        self.flipped = 0.0  # when
        self.cut = False  # lived on for two seconds after the change, and was cut by us
        self.ended = 0.0
        self.by = None  # 0: the assistor, 1: the sponsor closed it


class Relay:
    def __init__(self, to, port, flips=(), seed=0):
        self.to, self.flips, self.random = to, list(flips), random.Random(seed)
        self.connections, self.open = [], True
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(64)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while self.open:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            c = Connection(self.flips.pop(0) if self.flips else None)
            self.connections.append(c)
            threading.Thread(target=self.carry, args=(c, near), daemon=True).start()

    def changed(self, c, direction, data):
        at = len(c.bytes[direction])
        if c.flip and not c.flipped and c.flip[0] == direction and at <= c.flip[1] < at + len(data):
            data = bytearray(data)
            data[c.flip[1] - at] ^= self.random.randrange(1, 256)
            c.flipped = time.monotonic()
        return bytes(data)

    def carry(self, c, near):
        with contextlib.suppress(OSError), near, socket.create_connection(("127.0.0.1", self.to)) as far:
            ends = (near, far)
            for end in ends:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with selectors.DefaultSelector() as s:
                for i, end in enumerate(ends):
                    s.register(end, selectors.EVENT_READ, i)
                while self.open and not c.cut:
                    c.cut = c.flipped and time.monotonic() > c.flipped + 2
                    for ready, _ in s.select(0.2):
                        i = ready.data
                        try:
                            data = ends[i].recv(65536)
                        except ConnectionError:
                            data = b""
                        if not data:
                            c.by, c.ended = i, time.monotonic()
                            return
                        sent = self.changed(c, i, data)
                        c.bytes[i] += data
                        c.by = 1 - i  # if sending fails, the other end is gone
                        ends[1 - i].sendall(sent)
        c.ended = c.ended or time.monotonic()

    def close(self):
        self.open = False
        self.listener.close()
