"""Read images, captions and labels from folders, tables, archives and caption files."""
