"""What only one machine needs: the agents, the images, the stand-ins, and their first run."""
