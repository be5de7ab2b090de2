"""Turns the bytes of an image into pixels, or refuses them, within a time that no file can extend.

`limits` bounds what decoding may cost. `files`, with `jpeg` and `png`, says what kind of file it is, and which part of
it the decoder needs. `orientation` says which way up it is. `decode` makes the model's pixels. `decode_pool` has the
threads.
"""

from server.images.decode import Box, Picture, Placement, decode
from server.images.decode_pool import DecodePool

__all__ = ["Box", "DecodePool", "Picture", "Placement", "decode"]
