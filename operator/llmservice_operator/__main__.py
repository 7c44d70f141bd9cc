"""`python -m llmservice_operator`."""

from llmservice_operator.control.main import main

raise SystemExit(main())
