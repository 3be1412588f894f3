"""What building, testing and running the project on one machine needs, beside the project itself."""
