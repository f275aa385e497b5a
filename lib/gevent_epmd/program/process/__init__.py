"""The process that serves, and the other processes of this host."""
