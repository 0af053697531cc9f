"""Names of prefixes for people to see.

A block's hash is made from the prompt's tokens with nothing secret in it, so that whoever sees it can try texts until
one has it. A name is made from the hash with a key that no one sees, so no one can make it from a text.
"""

from hashlib import blake2b

NAME_BYTES = 8
KEY_BYTES = 32


class PrefixNames:
    """The same hash has the same name, from whichever router it comes.

    Args:
        key: random; of one process, as nothing that outlives it has such names.

    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def name_of(self, block_hash: str) -> str:
        """The name of a hash, in hexadecimal digits."""
        return blake2b(block_hash.encode(), key=self._key, digest_size=NAME_BYTES).hexdigest()
