"""The command `epmd`: reads the line and the environment, and asks an epmd or serves."""
