"""Where things stand in the containers of a service."""

CACHE_PATH = "/cache"
CLAIM_PATH = "/model"
SECRETS_PATH = "/secrets"
SETTINGS_FOLDER = "/etc/llmservice"
CA_FOLDER = "/etc/llmservice-ca"
TERMINATION_LOG = "/dev/termination-log"
