"""Care: what verifies a lake and mends it.

``pages``, ``tables`` and ``beside`` look and return findings; ``mending`` alone changes anything. The run that makes
tables anew is launched by the command line, because it is recorded like any other.
"""
