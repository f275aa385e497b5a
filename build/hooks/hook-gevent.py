# Replaces PyInstaller's own hook, which would collect every module of gevent.
