#!/usr/bin/python3
"""Writes the `hex` of every golden vector from its `meaning`, with python3-msgpack.

    /usr/bin/python3 tests/vectors/fill.py

The bytes come from another implementation of msgpack than the one that is tested. A vector marked
`by_hand` keeps its bytes: they are a form that no encoder of ours writes, or no msgpack at all.
"""

import json
import pathlib

import msgpack


def value_of(meaning):
    """JSON has no bytes: `{"$bin": "hex"}` stands for them."""
    if isinstance(meaning, dict):
        if set(meaning) == {"$bin"}:
            return bytes.fromhex(meaning["$bin"])
        return {key: value_of(value) for key, value in meaning.items()}
    if isinstance(meaning, list):
        return [value_of(value) for value in meaning]
    return meaning


def main():
    for path in sorted(pathlib.Path(__file__).parent.glob("*.json")):
        vectors = json.loads(path.read_text())
        for vector in vectors:
            if not vector.get("by_hand"):
                vector["hex"] = msgpack.packb(value_of(vector["meaning"])).hex()
        path.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
