"""The Erlang Port Mapper Daemon, epmd, in Python on gevent."""

__version__ = "0.1.0"
