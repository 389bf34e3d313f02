"""Where published labels go beside the lake: plain Parquet and the tables of a warehouse."""
