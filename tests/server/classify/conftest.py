"""A client of the application over the fake backend."""

import pytest

from tests.server.surface import serving


@pytest.fixture
async def client():
    async with serving() as client:
        yield client
