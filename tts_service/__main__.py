"""`python -m tts_service`: serve text to speech."""

import sys

from common.server.serve import serve

sys.exit(serve("tts_service", port_setting="tts_port"))
