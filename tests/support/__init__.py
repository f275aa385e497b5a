"""What several tests use: forms of an epmd, clients of the wire, other hosts.

No module here imports a test.
"""
