"""Seeds derived from names, so that every method meets the same noise for the same subject."""

import hashlib


def seed_for(*parts: object) -> int:
    """Return a 63-bit seed that depends on every part (the same on every machine and Python)."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
