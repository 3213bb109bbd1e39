"""What every stage builds on: files, arrays, YAML, images, statistics, names."""
