"""`python -m gateway` serves the gateway."""

import sys

from common.server.serve import serve

sys.exit(serve("gateway", port_setting="gateway_port"))
