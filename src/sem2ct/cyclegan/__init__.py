"""Unpaired translation between micro-CT and SEM across the scale gap."""
