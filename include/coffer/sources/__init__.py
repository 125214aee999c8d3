"""Where data comes from: file trees, and later databases. Each source feeds the repository's writer."""
