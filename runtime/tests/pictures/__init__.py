"""Pictures in chats: what they may be, and models that see them."""
