"""Where a stream is cut: by content (FastCDC), in fixed blocks, or between small files (bundles)."""
