"""Messages as nobody should send them."""

import random

import msgpack


def halves(message):
    """The message cut everywhere, and with single bytes spoiled."""
    packed = msgpack.packb(message)
    yield from (packed[:size] for size in range(len(packed)))
    chance = random.Random(7)
    for _ in range(200):
        spoiled = bytearray(packed)
        spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
        yield bytes(spoiled)
