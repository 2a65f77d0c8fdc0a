"""Prepares the database, once."""

import store

print("prepared:", store.ask(do="prepare"))
