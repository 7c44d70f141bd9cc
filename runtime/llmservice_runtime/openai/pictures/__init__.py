"""Pictures in chats: where they are in a request, what they may be, how they are read. No engine."""
