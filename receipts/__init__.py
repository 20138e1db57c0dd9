"""What happened to each image: in words, as a picture and as metadata; for the nodes and the command line."""
