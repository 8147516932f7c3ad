"""Measure embeddings by what is read off them: the class of the nearest neighbour, and that of a linear classifier."""
