"""`python -m browser` in e2e/: bring what the console's tests run on, before they run."""

from browser.axe import axe
from browser.chromium import chromium

print(chromium().program)
print(axe())
