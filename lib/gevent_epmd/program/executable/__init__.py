"""What is different in the executables that PyInstaller makes. C's epmd has no counterpart."""
