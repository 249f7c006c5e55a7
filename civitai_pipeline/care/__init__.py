"""Care: what verifies a lake and mends it, how large it is, and copies of it that bring it back.

``pages``, ``tables`` and ``beside`` look and return findings; of what a check finds, ``mending`` alone changes
anything. The run that makes tables anew is launched by the command line, because it is recorded like any other.
Files in, files out, over ``lake``: nothing here knows Dagster or sends a request. What puts pages of one lake into
another, counting their items anew, is in ``imports``; when to launch what, in ``upkeep``.
"""
