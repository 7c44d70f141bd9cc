"""`python -m llmservice_gateway`."""

from llmservice_gateway.cluster.main import main

raise SystemExit(main())
