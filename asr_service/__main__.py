"""`python -m asr_service`: serve speech to text."""

import sys

from common.server.serve import serve

sys.exit(serve("asr_service", port_setting="asr_port"))
