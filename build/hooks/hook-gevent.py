# Replaces the standard hook, which would collect every module of gevent.
