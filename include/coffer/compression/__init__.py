"""Compression of chunks: zstd, or none where it would not pay."""

from coffer.compression.codec import CODEC_RAW, CODEC_ZSTD, LEVEL_OFF, Compressor, decompress

__all__ = ["CODEC_RAW", "CODEC_ZSTD", "LEVEL_OFF", "Compressor", "decompress"]
