"""The health check of the image: exit status 0 where the hub in this container answers /health with 200, else 1."""

import http.client
import os
import sys

# Not urllib: it would ask the proxy that HTTP_PROXY names.
connection = http.client.HTTPConnection("localhost", int(os.environ.get("AGENTHUB_PORT", "9090")), timeout=4)
try:
    connection.request("GET", "/health")
    status = connection.getresponse().status
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"/health: {error}")
sys.exit(None if status == 200 else f"/health: status {status}")
