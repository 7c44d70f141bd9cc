"""What is known: the service, its children, nodes, the installation. Values and how they are read; pure."""
