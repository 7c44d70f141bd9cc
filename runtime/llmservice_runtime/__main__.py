"""`python -m llmservice_runtime` is `llmservice-runtime`."""

import sys

from llmservice_runtime.cli import main

sys.exit(main())
