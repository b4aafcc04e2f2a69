"""Building blocks of the architectures: arrays in, arrays out."""
