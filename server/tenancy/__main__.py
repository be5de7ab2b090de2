"""`python -m server.tenancy`: make an API key; it is printed once, with the hash line that the server keeps of it."""

import argparse
import sys
from collections.abc import Sequence

from server.tenancy.keys import KeyHash, make_key


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a new key and its hash line, or the hash line of a key that comes on standard input.

    Raises: SystemExit for what is no key.
    """
    parser = argparse.ArgumentParser(prog="python -m server.tenancy", description=__doc__)
    parser.add_argument("--admin", action="store_true", help="of an admin: may load and unload models, see all usage")
    parser.add_argument("--stdin", action="store_true", help="hash the key on standard input instead of making one")
    options = parser.parse_args(arguments)
    if options.stdin:
        try:
            print(KeyHash.of(sys.stdin.readline().strip(), is_admin=options.admin).line)
        except ValueError as error:
            raise SystemExit(str(error)) from None
        return
    key, kept = make_key(is_admin=options.admin)
    print(f"key        {key}")
    print(f"hash line  {kept.line}")
    print("Give the key to its owner: it is not stored anywhere. The hash line goes into `keys` of its tenant.")


if __name__ == "__main__":
    main()
