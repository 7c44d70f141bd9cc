"""The console at the gateway: its page, and the JSON that the page is made of."""
