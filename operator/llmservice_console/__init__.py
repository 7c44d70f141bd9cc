"""The console's page: its files, and the last hour that its plots show. It knows no gateway and no cluster."""
