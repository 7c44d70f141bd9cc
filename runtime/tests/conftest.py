"""Settings of every test: a property holds or it does not, however busy the machine is."""

from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.load_profile("here")
