"""The wire below the application: even bytes that are no HTTP get an error of our own form."""

import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, except that a request it cannot parse gets JSON instead of plain text."""

    def send_400_response(self, msg: str) -> None:
        body = json.dumps({"error": f"{msg.rstrip('.')}; expected HTTP/1.1"}).encode("ascii")
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
