"""Bytes to pixels, or a clear refusal, within a time that no file can stretch.

`leash` says how long a decoding thread may go on; `files`, with `jpeg` and `png`, what a file is and what of it a
decoder needs; `orientation` which way up it is; `decode` makes the model's pixels of it; `decoders` are the threads.
"""

from server.images.decode import Box, Picture, Placement, decode
from server.images.decode_pool import DecodePool

__all__ = ["Box", "DecodePool", "Picture", "Placement", "decode"]
