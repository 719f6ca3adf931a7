"""A camera's face as packets, frame by frame: Live Link Face's and VMC's."""
