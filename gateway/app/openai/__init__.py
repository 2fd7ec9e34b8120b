"""The endpoints of OpenAI's audio API; each family of them is a module."""
