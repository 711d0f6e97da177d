"""What a release says of itself in other people's formats: a signed statement, and a bill of materials.

Both follow from `zoo.lock.json`, byte for byte; the lock stays the one place where things are recorded.
"""
