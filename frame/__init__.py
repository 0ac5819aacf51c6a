"""The frame of every command line of the house: how it starts, speaks, shows, fails and ends."""
