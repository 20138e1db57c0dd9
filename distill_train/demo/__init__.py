"""The embedded demo family's own training: autoencoder, teacher, student, oracle, and the scenes they learn from."""
