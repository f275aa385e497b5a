"""What is different in the executables that PyInstaller makes."""
