"""Finds the places of the face mesh's points on the open head."""
