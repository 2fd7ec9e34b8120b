"""The routes that programs written for OpenAI's audio API ask; each family of them is a module."""
