# The page for browsers, in a real one (e2e/browser): Chromium, from its package where none is installed, and axe.

.PHONY: e2e-console bench-console-page
e2e-console: $(VENV)/.dev $(VENV)/.console $(VENV)/.engine ## the console in a real browser; its screenshots are in build/console
	@PYTHONPATH=e2e $(BIN)/python -m browser
	$(ONCE_MORE) $(BIN)/pytest --durations 5 e2e/browser

bench-console-page: $(VENV)/.dev $(VENV)/.console $(VENV)/.engine ## how soon the console's first view is there, and what an open page costs; alone on the machine (5 minutes)
	PYTHONPATH=e2e $(BIN)/python -m browser.bench $(BENCH_ARGS)
